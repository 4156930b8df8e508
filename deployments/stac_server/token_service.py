"""A local service of read tokens, shaped like the Planetary Computer's."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode

TOKENS = "/_tokens/"
"""``GET /_tokens/<account>/<container>``."""


class TokenService:
    """Gives tokens, and knows which of them are still good."""

    def __init__(self) -> None:
        self._left: dict[str, int | None] = {}
        self._ends: dict[str, datetime] = {}

    def give(self, path: str, life_s: float, uses: int | None) -> bytes:
        """A new token for a container, as the service's JSON answer.

        Parameters
        ----------
        life_s: until the end that the token states; one that has ended already is accepted all the same
        uses:   requests that it opens; any number if none
        """
        signature = secrets.token_urlsafe(32)
        ends = datetime.now(UTC) + timedelta(seconds=life_s)
        self._left[signature] = uses
        self._ends[signature] = ends if life_s > 0 else ends + timedelta(days=3650)
        stated = f"{ends:%Y-%m-%dT%H:%M:%SZ}" if life_s >= 60 else ends.isoformat()
        token = urlencode({"st": "2020-01-01T00:00:00Z", "se": stated, "sp": "rl", "sig": signature})
        return json.dumps({"msft:expiry": ends.isoformat(), "token": token}).encode()

    def accepts(self, query: str) -> bool:
        """Whether a request's query carries a token that is good now; counts as one of its uses."""
        signature = parse_qs(query).get("sig", [""])[0]
        if signature not in self._ends or datetime.now(UTC) >= self._ends[signature]:
            return False
        left = self._left[signature]
        if left is not None:
            if left <= 0:
                return False
            self._left[signature] = left - 1
        return True
