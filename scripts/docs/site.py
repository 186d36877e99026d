"""Hooks of MkDocs (mkdocs.yml): the first page from the README, and one reference page per module of lib/.

`make site` builds the site into site/ and fails at a broken link. Links to files outside docs/ lead to the
repository on the web where its address is known ($REPOSITORY_URL), and are checked in any case.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from lib.core.registry import REGISTRIES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = dict.fromkeys(registry.package for registry in REGISTRIES.values())
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and list the reference in the navigation."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    reference = []
    for package, names in (("", ["loader"]), *((package, modules(package)) for package in PACKAGES)):
        pages = []
        for name in names:
            module = ".".join(filter(None, (package, name)))
            path = f"reference/{module.replace('.', '/')}.md"
            files.append(File.generated(config, path, content=f"# cifar_zoo.{module}\n\n::: lib.{module}\n"))
            pages.append({name: path})
        reference += [{package: pages}] if package else pages
    config.nav.append({"Reference": reference})
    return files


def modules(package: str) -> list[str]:
    """The names of the public modules of one package of lib/."""
    files = (ROOT / "lib" / package).glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the README start at docs/, and links to other files of the repository lead to its web page."""
    source = ROOT if page.file.src_uri == "index.md" else (ROOT / "docs" / page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:") or page.file.src_uri.startswith("reference/"):
            return match[0]
        path = Path(os.path.normpath(source / target))
        if not path.exists():
            raise PluginError(f"{page.file.src_uri}: {target} does not exist")
        if path.is_relative_to(ROOT / "docs"):
            return f"{text}({os.path.relpath(path, (ROOT / 'docs' / page.file.src_uri).parent)}{anchor})"
        if config.repo_url:
            return f"{text}({config.repo_url.rstrip('/')}/blob/main/{path.relative_to(ROOT)}{anchor})"
        return text.removeprefix("[").removesuffix("]")

    parts = CODE.split(markdown)  # text and code by turns
    return "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))
