"""The ledger: every scene ever seen and its state in each cube, failures, searches, and sampled locations."""

from catalog.ledger.ledger import Ledger
from catalog.ledger.records import Failure, LedgerRow, Reconciliation, UpsertResult
from catalog.ledger.supersession import State

__all__ = ["Failure", "Ledger", "LedgerRow", "Reconciliation", "State", "UpsertResult"]
