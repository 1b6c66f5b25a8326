"""The image and the compose file: what they name is there, and what they promise about privileges holds.

No daemon is needed: the files are read, the S3 server is run as compose would, and the server is run as the image
does, as another user on a root file system that cannot be written to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from memoturn.faces.cli.settings import configure
from memoturn.faces.http.keys import new_platform_key, new_signing_key
from tests.bucket.services import free_port, running, tool
from tests.docs.pages import ROOT

INSTRUCTIONS = [
    (found[0], found[1])
    for found in re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICE = COMPOSE["services"]["memoturn"]
S3 = COMPOSE["services"]["s3"]
SETTINGS = {setting.name for setting in configure(None, {}).shown}


def last(instruction: str) -> str:
    return [argument for name, argument in INSTRUCTIONS if name == instruction][-1]


def test_the_image_runs_as_somebody_without_rights() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000
    after_user = [name for name, _ in INSTRUCTIONS[INSTRUCTIONS.index(("USER", last("USER"))) :]]
    assert "RUN" not in after_user
    assert json.loads(last("ENTRYPOINT")) == ["memoturn"]
    assert json.loads(last("CMD")) == ["serve"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_what_the_image_copies_is_there_and_nothing_else_goes_along() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for name, argument in INSTRUCTIONS
        if name == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    }
    assert {source.removeprefix("./") for source in copied} == kept
    assert all((ROOT / source).exists() for source in kept)


def test_every_setting_of_the_image_and_of_compose_is_one() -> None:
    image = set(re.findall(r"(MEMOTURN_\w+)=", last("ENV")))
    assert image == {"MEMOTURN_DATA_DIR", "MEMOTURN_LISTEN"}
    compose = {name for name in SERVICE["environment"] if name.startswith("MEMOTURN_")}
    assert image | compose <= SETTINGS


def test_compose_gives_the_server_nothing_that_it_does_not_need() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert SERVICE["volumes"] == ["node:/data"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICE["ports"])
    assert "ports" not in S3


def test_no_key_is_in_a_file_that_is_kept() -> None:
    text = (ROOT / "compose.yaml").read_text() + (ROOT / "Dockerfile").read_text()
    assert not re.search(r"MEMOTURN_(PLATFORM_KEY|AUTH_KEY)\s*[:=]", text)
    assert "*.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_s3_server_of_compose_is_one_that_the_store_of_compose_finds(tmp_path: Path) -> None:
    assert S3["image"] == COMPOSE["services"]["make-bucket"]["image"]
    bucket = SERVICE["environment"]["MEMOTURN_OBJECT_STORE"].removeprefix("s3://")
    made = COMPOSE["services"]["make-bucket"]["entrypoint"]
    assert made == ["mkdir", "-p", f"/data/{bucket}"]
    given = S3["environment"]
    assert SERVICE["environment"]["AWS_ENDPOINT_URL"] == f"http://s3{given['VGW_PORT']}"

    (tmp_path / "data" / bucket).mkdir(parents=True)
    try:
        os.setxattr(tmp_path / "data", "user.memoturn", b"1")
    except OSError:
        pytest.skip("versitygw needs a file system with extended attributes")
    port = free_port()
    command = [tool("versitygw"), *S3["command"]]
    command[-1] = str(tmp_path / "data")
    environment = {name: value for name, value in SERVICE["environment"].items() if name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"}
    with running(
        command, port, tmp_path / "log", env={**os.environ, **given, "VGW_PORT": f"127.0.0.1:{port}"}
    ):
        url = f"http://127.0.0.1:{port}{given['VGW_HEALTH']}"
        assert S3["healthcheck"]["test"][-1].endswith(f"{given['VGW_PORT']}{given['VGW_HEALTH']}")
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
        done = subprocess.run(
            [sys.executable, "-m", "memoturn.faces.cli", "db", "create", "x", "--url", f"s3://{bucket}"],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / bucket / "catalog" / "x.json").exists()


BOXED = """
mount --make-rprivate / &&
mount --bind "$1" "$1" &&
mount --bind / / && mount -o remount,bind,ro / &&
cd "$1" && shift && exec setpriv --reuid 10001 --regid 10001 --clear-groups --inh-caps=-all \
    --bounding-set=-all --no-new-privs "$@"
"""


def test_the_server_runs_as_another_user_on_a_root_that_it_cannot_write_to(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("only root can do what a container does")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("no file systems can be mounted here")
    # Directories of pytest are its user's alone.
    data = Path(tempfile.mkdtemp(prefix="memoturn-image-"))
    os.chown(data, 10001, 10001)
    request.addfinalizer(lambda: shutil.rmtree(data))
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(data), "TMPDIR": str(data), "MEMOTURN_DATA_DIR": str(data),
        "MEMOTURN_LISTEN": f"0.0.0.0:{port}", "MEMOTURN_AUTH": "on",
        "MEMOTURN_PLATFORM_KEY": (key := new_platform_key()), "MEMOTURN_AUTH_KEY": new_signing_key(),
    }  # fmt: skip

    def box(*words: str) -> list[str]:
        return ["unshare", "-m", "sh", "-c", BOXED, "sh", str(data), sys.executable, *words]

    probe = "import os\ntry: open('/x', 'w')\nexcept OSError as e: print(os.geteuid(), e.errno)"
    looked = subprocess.run(box("-c", probe), env=environment, capture_output=True, text=True)
    assert looked.stdout.split() == ["10001", "30"], looked.stdout + looked.stderr

    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            box("-m", "memoturn.faces.cli", "serve"), env=environment, stdout=out, stderr=out
        )
    try:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/databases",
            data=b'{"name": "x"}',
            headers={"Authorization": f"Bearer {key}"},
        )
        for _ in range(200):
            assert server.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    assert answer.status == 201
                break
            except urllib.error.HTTPError:
                raise
            except urllib.error.URLError:
                time.sleep(0.1)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, log.read_text()
    assert (data / "objects" / "catalog" / "x.json").exists()
    assert key not in log.read_text()
