"""The archive's own page: plain HTML made on the server, for any browser, with or without JavaScript."""

from leanpacs.services.ui.page import Addresses, Page
from leanpacs.services.ui.viewer import ViewerOptions, viewer_operations

__all__ = ["Addresses", "Page", "ViewerOptions", "viewer_operations"]
