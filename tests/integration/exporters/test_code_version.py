"""The commit that a training notes is that of the checkout which its code is in."""

import subprocess

import pytest

from sluice.exporters.training import provenance


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Run git in a folder where the module seems to be."""
    file = tmp_path / "provenance.py"
    file.write_text("first")
    monkeypatch.setattr(provenance, "__file__", str(file))

    def run(*arguments):
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        command = ("git", "-C", str(tmp_path), *identity, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    return run


def test_code_in_no_checkout_has_no_version(git):
    assert provenance.code_version() == ""


def test_code_beside_another_project_has_no_version(git, tmp_path):
    git("init", "-q")
    (tmp_path / "other.txt").write_text("another project")
    git("add", "other.txt")
    git("commit", "-q", "-m", "begin")
    assert provenance.code_version() == ""


def test_a_checkout_gives_its_commit_and_whether_it_was_changed(git, tmp_path):
    git("init", "-q")
    git("add", "provenance.py")
    git("commit", "-q", "-m", "begin")
    git("tag", "-a", "v1", "-m", "a tag is no version")
    commit = git("rev-parse", "HEAD")
    assert len(commit) == 40
    assert provenance.code_version() == commit
    (tmp_path / "provenance.py").write_text("second")
    assert provenance.code_version() == f"{commit}-dirty"
