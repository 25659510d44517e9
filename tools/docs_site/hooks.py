"""What MkDocs calls while it builds: the generated pages join those of docs/."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File

from tools.docs_site.reference import pages


def on_files(files: Any, config: Any) -> Any:
    """Adds the reference pages to the files of the site."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
