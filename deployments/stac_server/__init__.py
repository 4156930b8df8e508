"""A STAC API over a folder of scenes: the sandbox archive, or real GeoTIFFs where they lie."""

from deployments.stac_server.prepare import prepare_folder
from deployments.stac_server.server import ArchiveServer, serve_archive, serves

__all__ = ["ArchiveServer", "prepare_folder", "serve_archive", "serves"]
