"""Downloads the trained model that the readme.md of a model's folder names, and checks it.

    pycaffe_lite download_model_binary DIRNAME

The readme starts with lines between two `---`. Three of them are read, as in Caffe's scripts/download_model_binary.py:
`caffemodel` (the file's name), `caffemodel_url` and `sha1`. A broken download is continued. A file with another SHA-1 is not
kept, and a readme without SHA-1 is refused, since the download could not be checked.
"""

from __future__ import annotations

import argparse
import hashlib
import http
import re
import urllib.error
from pathlib import Path
from typing import NamedTuple

from ..errors import ModelFileError, located
from ..proto.model_file import MAX_BYTES
from ._download import NETWORK_ERRORS, receive

GROUP = "Caffe's old tools"

KEYS = ("caffemodel", "caffemodel_url", "sha1")
README_BYTES = 1 << 20


class Model(NamedTuple):
    """The entries of a readme for a model."""

    name: str
    url: str
    sha1: str


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite download_model_binary", description=__doc__.splitlines()[0])
    parser.add_argument("dirname", type=Path, help="folder with a readme.md")
    folder = parser.parse_args(argv).dirname
    model = read_readme(folder)
    target, part = folder / model.name, folder / f"{model.name}.part"
    if target.is_file() and _sha1(target) == model.sha1:
        print("Model already exists.")
        return 0
    _fetch(model.url, part)
    if (received := _sha1(part)) != model.sha1:
        part.unlink()
        raise ModelFileError(f"expected a file of SHA-1 {model.sha1}, received {received}; run this again", model.url)
    part.replace(target)
    print(f"{target}: downloaded, and right")
    return 0


def read_readme(folder: Path) -> Model:
    """The model of a folder. Raises `ModelFileError` if the readme is missing or incomplete."""
    path = folder / "readme.md"
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file; expected the folder of a model")
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file.read(README_BYTES).splitlines()]
    with located(str(path)):
        if lines.count("---") < 2:
            raise ModelFileError("expected lines such as `sha1: ...` between two lines of `---`")
        top = lines.index("---")
        pairs = (line.partition(":") for line in lines[top + 1 : lines.index("---", top + 1)])
        fields = {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
        for key in KEYS:
            if not fields.get(key):
                raise ModelFileError(f'has no "{key}" between its two lines of `---`')
        model = Model(*(fields[key] for key in KEYS))
        if not re.fullmatch(r"[^/\\\0]+", model.name) or model.name in (".", ".."):
            raise ModelFileError(f'expected the name of a file in "caffemodel", received "{model.name}"')
        if not re.match("https?://", model.url, re.IGNORECASE):
            raise ModelFileError(f'expected an address with http or https in "caffemodel_url", received "{model.url}"')
        if not re.fullmatch("[0-9a-f]{40}", model.sha1.lower()):
            raise ModelFileError(f'expected 40 hexadecimal digits in "sha1", received "{model.sha1}"')
    return model._replace(sha1=model.sha1.lower())


def _fetch(url: str, part: Path) -> None:
    """Downloads the rest of a file. A complete file is left unchanged."""
    try:
        receive(url, part, MAX_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise ModelFileError(f"cannot be downloaded: {error.code} {error.reason}", url) from error
    except NETWORK_ERRORS as error:
        kept = " What came so far is kept; run this again to go on." if part.exists() else ""
        raise ModelFileError(f"cannot be downloaded: {error}.{kept}", url) from error


def _sha1(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
