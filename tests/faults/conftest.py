"""A tiny sandbox that is served once, and what a run over it comes to when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog.archives import Archive, load_archive
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.stac_server import ArchiveServer, serve_archive
from tests.faults.pipeline import Outcome, run
from tests.faults.refresh_pipeline import Follower, Whole, following


def signed(archive: Archive) -> Archive:
    """The same local archive, had it to be read with tokens of its own service."""
    return archive.model_copy(
        update={
            "access": "planetary-computer-sas",
            "token_url": f"{archive.url}/_tokens",
            "token_hosts": {"127.0.0.1": "tiny/assets"},
        }
    )


@dataclass(frozen=True)
class Tiny:
    """The sandbox of one product, served."""

    info: SandboxInfo
    server: ArchiveServer
    archive: Archive
    product: str
    flawless: Outcome

    @property
    def signed(self) -> Archive:
        return signed(self.archive)


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Tiny]]:
    """Makes and serves the sandbox of a product, once."""
    made: dict[str, Tiny] = {}
    open_servers = ExitStack()

    def tiny(name: str) -> Tiny:
        if name not in made:
            folder = tmp_path_factory.mktemp("tiny") / "archive"
            wanted = [name, "sentinel-2-l2a"] if name == "sentinel-2-l1c" else [name]
            info = make_sandbox(folder, size_m=960, dates=1, products=wanted)
            server = open_servers.enter_context(serve_archive(folder))
            archive = load_archive("sandbox", url=server.url).model_copy(update={"page_size": 2})
            with pytest.MonkeyPatch.context() as home:
                home.setenv("SWATH_HOME", str(tmp_path_factory.mktemp("flawless")))
                flawless = run(info, archive, name, "flawless")
                assert flawless.result is not None and flawless.cube is not None
            made[name] = Tiny(info, server, archive, name, flawless)
        made[name].server.set_faults([])
        made[name].server.reset_requests()
        return made[name]

    yield tiny
    open_servers.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``SWATH_HOME`` of the test's own, and no token of an earlier one."""
    from tasks.tokens import forget_tokens

    forget_tokens()
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def archive_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SandboxInfo]:
    """Makes the archive of a product, once for each size; what changes it works on a copy."""

    def archive(name: str, size_m: int = 960) -> SandboxInfo:
        folder = tmp_path_factory.getbasetemp() / "archives" / f"{name}-{size_m}"
        wanted = [name, "sentinel-2-l2a"] if name == "sentinel-2-l1c" else [name]
        return make_sandbox(folder, size_m=size_m, dates=1, products=wanted)

    return archive


@pytest.fixture(scope="session")
def _flows_are_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports the steps of a refresh with Prefect's files in a folder that is thrown away."""
    from flows.environment import QUIET

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        for name, value in QUIET.items():
            environment.setenv(name, value)
        import flows.steps.acquire
        import flows.steps.gate  # noqa: F401


@pytest.fixture
def follow(
    archive_of: Callable[..., SandboxInfo], _flows_are_imported: None, home: Path, tmp_path: Path
) -> Iterator[Callable[..., Follower]]:
    """Follows the archive of a product, of which nothing is known yet."""
    with ExitStack() as stack:

        def follower(name: str, size_m: int = 960) -> Follower:
            return stack.enter_context(following(archive_of(name, size_m), name, tmp_path / "archive"))

        yield follower


@pytest.fixture(scope="session")
def whole_of(
    archive_of: Callable[..., SandboxInfo],
    _flows_are_imported: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Whole]:
    """What one refresh makes of a product's archive when nothing changes."""
    made: dict[tuple[str, int], Whole] = {}

    def whole(name: str, size_m: int = 960) -> Whole:
        if (name, size_m) not in made:
            folder = tmp_path_factory.mktemp("whole")
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("SWATH_HOME", str(folder / "home"))
                with following(archive_of(name, size_m), name, folder / "archive") as follower:
                    run = follower.refresh()
                    assert run.result is not None and not run.result.failures
                    samples, scenes = follower.samples(), follower.cube.scenes(name)
                    made[name, size_m] = Whole(run, samples, scenes)
        return made[name, size_m]

    return whole
