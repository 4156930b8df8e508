"""What holds on a local disk holds in an object store; and what a failing object store leaves behind."""
