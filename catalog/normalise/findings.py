"""What a normaliser finds in one item: what it mended, and every reason not to use it."""

from __future__ import annotations

from dataclasses import dataclass, field

from catalog.errors import SceneError

SEPARATOR = "; "


class RefusedScene(SceneError):
    """An item that cannot become a scene; its message lists every reason.

    The code is ``other-product`` where the item is sound but shows another sensor or level (Landsat's
    collections mix them), else ``item-refused``.
    """

    repairs: tuple[str, ...] = ()
    """What was mended all the same, for whoever looks at the item."""

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.message.split(SEPARATOR))


@dataclass
class Findings:
    """Collected while one item is read, so that all reasons are known at once."""

    refusals: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    """Reasons that only say: another product."""
    repairs: list[str] = field(default_factory=list)
    assets: dict[str, list[str]] = field(default_factory=dict)
    """Reason → asset keys it holds for."""

    def refuse(self, reason: str) -> None:
        self._note(self.refusals, reason)

    def refuse_asset(self, key: str, reason: str) -> None:
        """A reason that often holds for many assets alike: it is given once."""
        self.assets.setdefault(reason.replace(SEPARATOR, ", "), []).append(key)

    def mismatch(self, reason: str) -> None:
        self._note(self.mismatches, reason)

    def repair(self, text: str) -> None:
        self._note(self.repairs, text)

    def settle(self, subject: str) -> None:
        """Raise if there is a reason to."""
        of_assets = [
            f"asset{'s' if len(keys) > 1 else ''} {', '.join(keys)}: {reason}"
            for reason, keys in self.assets.items()
        ]
        refusals = [*self.refusals, *(text.replace(SEPARATOR, ", ") for text in of_assets)]
        if not refusals and not self.mismatches:
            return
        other = bool(self.mismatches)
        refusal = RefusedScene(
            "other-product" if other else "item-refused",
            SEPARATOR.join((*self.mismatches, *refusals)),
            subject=subject,
            next_step=(
                "nothing: it is of another product"
                if other
                else "look at it with `swath scenes inspect`, and report it to the archive"
            ),
        )
        refusal.repairs = tuple(self.repairs)
        raise refusal

    @staticmethod
    def _note(target: list[str], text: str) -> None:
        text = text.replace(SEPARATOR, ", ")
        if text not in target:
            target.append(text)
