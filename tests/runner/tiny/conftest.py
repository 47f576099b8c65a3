"""The libraries, quiet and imported once."""

import pytest

from callsheet.runner.diffusion import import_libraries
from callsheet.runner.untyped import Untyped, imported


@pytest.fixture(scope="session")
def diffusers() -> Untyped:
    """The library, as a runner sets it up."""
    import_libraries()
    library = imported("diffusers")
    library.utils.logging.disable_progress_bar()
    imported("transformers").utils.logging.disable_progress_bar()
    imported("torch").set_num_threads(1)
    return library
