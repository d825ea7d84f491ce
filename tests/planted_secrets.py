"""Secrets as people leave them in images: one file for each, with values made at test time in the form of real ones.

Nothing here is a secret, and no line of this file looks like one, so that no scanner of the repository reports it.
"""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Mapping
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

_RANDOM = random.Random(12)  # the same values in each run
_LETTERS, _HEX, _UPPER = string.ascii_letters, "0123456789abcdef", string.ascii_uppercase + "234567"
_WORD = _LETTERS + string.digits
_HOME = "/home/notebook"


def _text(length: int, alphabet: str = _WORD) -> str:
    return "".join(_RANDOM.choice(alphabet) for _ in range(length))


def _github(prefix: str) -> str:
    """Return a token of GitHub with its checksum (github.blog: behind GitHub's new authentication token formats)."""
    body = _text(30)
    value, check = zlib.crc32(body.encode()), ""
    while value or len(check) < 6:
        value, digit = divmod(value, 62)
        check = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + check
    return f"{prefix}_{body}{check}"


def _pem(key: object, form: PrivateFormat, password: bytes = b"") -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption).decode()  # type: ignore[attr-defined]


def _uuid() -> str:
    return "-".join(_text(length, _HEX) for length in (8, 4, 4, 4, 12))


def _keys() -> dict[str, tuple[str, str]]:
    large = rsa.generate_private_key(65537, 2048)
    curve, short = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    pkcs8, traditional, ssh = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH
    account = {
        "type": "service_account",
        "project_id": "research-4711",
        "private_key_id": _text(40, _HEX),
        "private_key": _pem(large, pkcs8),
        "client_email": "baker@research-4711.iam.gserviceaccount.com",
    }
    return {
        "SSH key": (f"{_HOME}/.ssh/id_ed25519", _pem(short, ssh)),
        "SSH key of another name": (f"{_HOME}/.ssh/work", _pem(short, ssh)),
        "SSH key outside of homes": ("/opt/app/deploy_key", _pem(large, ssh)),
        "TLS key": ("/etc/nginx/tls/server.key", _pem(large, traditional)),
        "key of a service": ("/srv/app/server.conf", "listen 443\n" + _pem(short, pkcs8)),
        "key in /usr/local": ("/usr/local/etc/app/client.pem", _pem(curve, traditional)),
        "key in /usr/share": ("/usr/share/app/client.pem", _pem(curve, pkcs8)),
        "key in /var/lib": ("/var/lib/app/tls/key.pem", _pem(large, pkcs8)),
        "key with a password": (f"{_HOME}/work/client.pem", _pem(large, pkcs8, _text(12).encode())),
        "key in a notebook": (f"{_HOME}/key.ipynb", notebook(f"key = '''{_pem(large, traditional)}'''")),
        "service account": ("/opt/app/account.json", json.dumps(account, indent=2)),
        "kubeconfig": (
            f"{_HOME}/.kube/config",
            f"users:\n- name: me\n  user:\n    client-key-data: {base64.b64encode(_pem(curve, traditional).encode()).decode()}\n",
        ),
    }


def notebook(source: str) -> str:
    """Return a notebook with one cell."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": source.splitlines(keepends=True)}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def _tokens() -> dict[str, tuple[str, str]]:
    hf, aws_id, aws_secret = (lambda: f"hf_{_text(34, _LETTERS)}"), (lambda: f"AKIA{_text(16, _UPPER)}"), (lambda: _text(40))
    openai, pat = (lambda: f"sk-{_text(20)}T3BlbkFJ{_text(20)}"), (lambda: f"github_pat_11{_text(20, _UPPER)}_{_text(59)}")
    return {
        "Kaggle": (f"{_HOME}/.kaggle/kaggle.json", json.dumps({"username": "me", "key": _text(32, _HEX)})),
        "Kaggle elsewhere": (f"{_HOME}/.config/kaggle/kaggle.json", json.dumps({"username": "me", "key": _text(32, _HEX)})),
        "Hugging Face": (f"{_HOME}/.cache/huggingface/token", hf()),
        "Hugging Face, several": (f"{_HOME}/.cache/huggingface/stored_tokens", f"[mine]\nhf_token = {hf()}\n"),
        "Hugging Face in .bashrc": (f"{_HOME}/.bashrc", f"alias ll='ls -l'\nexport HF_TOKEN={hf()}\n"),
        "OpenAI in .profile": (f"{_HOME}/.profile", f"export OPENAI_API_KEY={openai()}\n"),
        "OpenAI project in .env": (
            f"{_HOME}/work/.env",
            f"DEBUG=1\nOPENAI_API_KEY=sk-proj-{_text(74)}T3BlbkFJ{_text(74)}\n",
        ),
        "OpenAI in a start file of IPython": (
            f"{_HOME}/.ipython/profile_default/startup/00-keys.py",
            f'import os\nos.environ["OPENAI_API_KEY"] = "{openai()}"\n',
        ),
        "Anthropic in .env": ("/srv/app/.env", f"ANTHROPIC_API_KEY=sk-ant-api03-{_text(93)}AA\n"),
        "GitHub in .zshrc": (f"{_HOME}/.zshrc", f"export GITHUB_TOKEN={pat()}\n"),
        "GitHub in a notebook": (f"{_HOME}/analysis.ipynb", notebook(f"token = '{_github('ghp')}'")),
        "GitHub in .Renviron": (f"{_HOME}/.Renviron", f"GITHUB_PAT={_github('ghp')}\n"),
        "GitHub CLI": (f"{_HOME}/.config/gh/hosts.yml", f"github.com:\n    user: me\n    oauth_token: {_github('gho')}\n"),
        "GitLab in .gitconfig": (
            f"{_HOME}/.gitconfig",
            f'[url "https://oauth2:glpat-{_text(20)}@gitlab.com/"]\n\tinsteadOf = https://gitlab.com/\n',
        ),
        "git credentials": (f"{_HOME}/.git-credentials", f"https://me:{_text(20)}@example.com\n"),
        "remote of a clone": (
            f"{_HOME}/work/.git/config",
            f'[remote "origin"]\n\turl = https://me:{_github("ghp")}@github.com/me/x\n',
        ),
        "AWS credentials": (
            f"{_HOME}/.aws/credentials",
            f"[default]\naws_access_key_id = {aws_id()}\naws_secret_access_key = {aws_secret()}\n",
        ),
        "AWS in an environment file": (
            "/srv/app/env",
            f"AWS_ACCESS_KEY_ID={aws_id()}\nAWS_SECRET_ACCESS_KEY={aws_secret()}\n",
        ),
        "AWS in root's .bashrc": (
            "/root/.bashrc",
            f"export AWS_ACCESS_KEY_ID={aws_id()}\nexport AWS_SECRET_ACCESS_KEY={aws_secret()}\n",
        ),
        "Google's user credentials": (
            f"{_HOME}/.config/gcloud/application_default_credentials.json",
            json.dumps({"client_id": "1.apps.googleusercontent.com", "refresh_token": f"1//0{_text(60)}"}),
        ),
        "Google API key": ("/opt/app/.env", f"GOOGLE_API_KEY=AIza{_text(35)}\n"),
        "Slack in profile.d": (
            "/etc/profile.d/tokens.sh",
            f"export SLACK_BOT_TOKEN=xoxb-{_text(12, string.digits)}-{_text(12, string.digits)}-{_text(24)}\n",
        ),
        "Stripe": ("/srv/shop/.env", f"STRIPE_SECRET_KEY=sk_live_{_text(24)}\n"),
        "npm": (f"{_HOME}/.npmrc", f"//registry.npmjs.org/:_authToken={_github('npm')}\n"),
        "PyPI": (f"{_HOME}/.pypirc", f"[pypi]\nusername = __token__\npassword = pypi-AgEIcHlwaS5vcmc{_text(150)}\n"),
        "Docker": (
            f"{_HOME}/.docker/config.json",
            json.dumps({"auths": {"index.docker.io": {"auth": base64.b64encode(f"me:{_text(20)}".encode()).decode()}}}),
        ),
        "Databricks": (
            f"{_HOME}/.databrickscfg",
            f"[DEFAULT]\nhost = https://x.cloud.databricks.com\ntoken = dapi{_text(32, _HEX)}\n",
        ),
        "Vault": ("/root/.vault-token", f"hvs.{_text(95)}"),
        "DigitalOcean": (f"{_HOME}/.config/doctl/config.yaml", f"access-token: dop_v1_{_text(64, _HEX)}\n"),
        "Weights & Biases in .bashrc": ("/home/notebook/.bash_profile", f"export WANDB_API_KEY={_text(40, _HEX)}\n"),
        "token of a unit": (
            "/etc/systemd/system/app.service",
            f"[Service]\nEnvironment=GITHUB_TOKEN={_github('ghp')}\nExecStart=/srv/app/run\n",
        ),
        "cargo": (f"{_HOME}/.cargo/credentials.toml", f'[registry]\ntoken = "cio{_text(32)}"\n'),
        "Terraform": (
            f"{_HOME}/.terraform.d/credentials.tfrc.json",
            json.dumps({"credentials": {"app.terraform.io": {"token": f"{_text(14)}.atlasv1.{_text(67)}"}}}),
        ),
        "JWT in a script": (
            "/usr/local/bin/report",
            f"#!/bin/sh\ncurl -H 'Authorization: Bearer {_jwt()}' https://example.com/report\n",
        ),
    }


def _jwt() -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "4711", "name": "me", "iat": 1_790_000_000})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, _text(43)])


def _passwords() -> dict[str, tuple[str, str]]:
    return {
        "pgpass": (f"{_HOME}/.pgpass", f"db.example.com:5432:app:me:{_text(14)}\n"),
        "netrc": (f"{_HOME}/.netrc", f"machine api.example.com login me password {_text(14)}\n"),
        "MySQL": (f"{_HOME}/.my.cnf", f"[client]\nuser = me\npassword = {_text(14)}\n"),
        "pip": (f"{_HOME}/.config/pip/pip.conf", f"[global]\nindex-url = https://me:{_text(14)}@pypi.example.com/simple\n"),
        "uv": (f"{_HOME}/.config/uv/uv.toml", f'[[index]]\nurl = "https://me:{_text(14)}@pypi.example.com/simple"\n'),
        "apt": ("/etc/apt/auth.conf.d/mine.conf", f"machine deb.example.com login me password {_text(14)}\n"),
        "source of apt": ("/etc/apt/sources.list.d/x.list", f"deb https://me:{_text(14)}@deb.example.com/ trixie main\n"),
        "database URL": ("/etc/environment", f"DATABASE_URL=postgresql://app:{_text(16)}@db.example.com:5432/app\n"),
        "MongoDB URL": ("/opt/app/config.yaml", f"uri: mongodb+srv://app:{_text(16)}@cluster0.abcde.mongodb.net/app\n"),
        "rclone": (f"{_HOME}/.config/rclone/rclone.conf", f"[box]\ntype = s3\nsecret_access_key = {_text(40)}\n"),
        "s3cmd": (f"{_HOME}/.s3cfg", f"[default]\naccess_key = {_text(20, _UPPER)}\nsecret_key = {_text(40)}\n"),
        "conda channel": (f"{_HOME}/.condarc", f"channels:\n  - https://conda.anaconda.org/t/me-{_uuid()}/me\n"),
        "WireGuard": (
            "/etc/wireguard/wg0.conf",
            f"[Interface]\nPrivateKey = {base64.b64encode(_RANDOM.randbytes(32)).decode()}\nAddress = 10.0.0.2/32\n",
        ),
    }


@cache
def planted_secrets() -> Mapping[str, tuple[str, bytes]]:
    """Return the path and the content of each file with a secret, by what it is."""
    return {name: (path, text.encode()) for name, (path, text) in {**_keys(), **_tokens(), **_passwords()}.items()}
