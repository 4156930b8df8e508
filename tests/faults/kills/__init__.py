"""Kills a refresh at random moments, reruns it, and compares what it made with the undisturbed run.

``python -m tests.faults.kills --trials 5000 --seed 1`` ends with a table: phase → kills, violations.

A server process has imported everything that a refresh needs, but has opened no store, database, dataset or
connection and runs one thread only, so that forking it is safe. Each trial is a few of its children: one that
works until it is killed, one that does the work again to its end, and one that looks at what is there.
"""
