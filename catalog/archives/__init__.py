"""Archives: STAC APIs, what they can do, what they call each product, and where their files may lie."""

from catalog.archives.model import Archive
from catalog.archives.registry import archive_names, load_archive, load_archives

__all__ = ["Archive", "archive_names", "load_archive", "load_archives"]
