"""A file that others see whole or not at all, on every kind of file system."""

from __future__ import annotations

import errno
import os

import pytest

from sluice.pipeline.core import output_files
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.output_files import write_whole


@pytest.fixture(params=[None, errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def link_error(request, monkeypatch):
    """The error of making a hard link; None where the file system has them."""

    def fail(*_):
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(output_files.os, "link", fail)
    return request.param


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("replace", [False, True])
def test_a_new_file_has_its_content_and_leaves_none_beside_it(tmp_path, link_error, replace):
    write_whole(tmp_path / "r.json", b"new", replace=replace)
    assert contents(tmp_path) == {"r.json": b"new"}


def test_a_file_that_has_come_meanwhile_is_kept_and_the_content_is_beside_it(tmp_path, link_error):
    (tmp_path / "r.json").write_bytes(b"of another process")
    aside = f".r.json.{os.getpid()}.new"
    with pytest.raises(RunError, match=rf"another process has created it .* in {aside} beside it"):
        write_whole(tmp_path / "r.json", b"new", replace=False)
    assert contents(tmp_path) == {"r.json": b"of another process", aside: b"new"}
