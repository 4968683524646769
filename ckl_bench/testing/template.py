"""`ckl-bench new-method`: a starting file that runs as it stands, and a test of it."""

from __future__ import annotations

import keyword
from pathlib import Path

from ckl_bench.errors import UserError, unknown
from ckl_bench.stacks.plugins import canonical, origins
from ckl_bench.storage.writing import write_files

from .starts import METHOD, STARTS, TEST


def write_method(name: str, folder: Path, hook: str = "weigh") -> tuple[Path, Path]:
    """Write FOLDER/name.py, a start that owns `hook`, and FOLDER/test_name.py; returns both.

    Raises UserError for a bad or taken name, and for an unknown hook.
    """
    if hook not in STARTS:
        raise unknown("hook", hook, STARTS)
    module = name.strip().replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module) or module.startswith("_") or module != module.lower():
        raise UserError(f"'{name}' cannot name a method; use small letters, digits and _, such as my_method")
    if canonical(module) in origins(folder if folder.is_dir() else None):
        raise UserError(f"there is a method '{canonical(module)}' already; choose another name")
    method, test = folder / f"{module}.py", folder / f"test_{module}.py"
    for path in (method, test):
        if path.exists():
            raise UserError(f"{path} exists already; choose another name")
    imports, body = STARTS[hook]
    words = {
        "IMPORTS": imports,
        "BODY": body,
        "FIELD": body.split(":", 1)[0].strip(),
        "CLASS": "".join(part.title() for part in module.split("_")),
        "TITLE": module.replace("_", " ").title(),
        "NAME": canonical(module),
        "FILE": module,
    }
    contents = {}
    for path, text in ((method, METHOD), (test, TEST)):
        for word, value in words.items():
            text = text.replace(word, value)
        contents[path] = text.encode()
    write_files(contents)
    return method, test
