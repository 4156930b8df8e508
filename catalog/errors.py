"""The errors a user can meet: each carries a code, the scene or field it is about, and the next step."""

from __future__ import annotations


class SwathError(Exception):
    """Something that was asked for failed.

    Attributes
    ----------
    code:       stable, kebab-case name of the failure, e.g. ``archive-unreachable``
    message:    one line that says what happened
    subject:    the scene id, recipe field, file or encoder it is about
    next_step:  one line that says what the user can do
    exit_code:  exit status of the command line: 1 the thing failed, 2 bad usage
    """

    exit_code = 1

    def __init__(self, code: str, message: str, *, subject: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.subject = subject
        self.next_step = next_step

    def __str__(self) -> str:
        subject = f"{self.subject}: " if self.subject else ""
        next_step = f" Next: {self.next_step}" if self.next_step else ""
        return f"{subject}{self.message} [{self.code}]{next_step}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.subject, self.next_step))


class UsageError(SwathError):
    """What was asked for makes no sense: an unknown recipe key, an unknown product, a bad flag."""

    exit_code = 2


class ArchiveError(SwathError):
    """A STAC archive did not answer, or not as it should."""


class SceneError(SwathError):
    """One scene cannot be used; ``subject`` is its id."""


class LedgerError(SwathError):
    """The ledger or its database cannot be used, or was asked for a change of state that cannot be."""


class CubeError(SwathError):
    """A cube cannot be opened, written or verified."""


class EncoderError(SwathError):
    """An encoder cannot be found, loaded, verified or registered."""


class TrainingError(SwathError):
    """Pretraining stopped without a usable encoder."""


def _rebuild(kind: type[SwathError], code: str, message: str, subject: str, next_step: str) -> SwathError:
    return kind(code, message, subject=subject, next_step=next_step)
