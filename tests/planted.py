"""Secrets that people have left in images: where each lies, what it holds, and what our search calls it."""

from __future__ import annotations

from typing import NamedTuple

from tests.planted_secrets import planted_secrets


class Planted(NamedTuple):
    """One secret."""

    path: str
    content: bytes
    what: str
    line: int = 0

    @property
    def told(self) -> str:
        """How a line about it begins."""
        return f"{self.path}:{self.line}: {self.what}" if self.line else f"{self.path}: {self.what}"


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"
PLANTED = {
    "SSH host key": Planted("/etc/ssh/ssh_host_rsa_key", KEY, "SSH host key"),
    "authorized key": Planted("/root/.ssh/authorized_keys", b"ssh-ed25519 AAAAC3 me\n", "SSH authorized key"),
    "SSH private key": Planted("/home/notebook/.ssh/id_ed25519", KEY, "SSH private key"),
    "cloud credentials": Planted("/root/.aws/credentials", b"[default]\naws_secret_access_key = abc\n", "AWS credentials"),
    "cloud credentials elsewhere": Planted(*planted_secrets()["AWS in an environment file"], "aws-access-key-id", 1),
    "service-account JSON": Planted(*planted_secrets()["service account"], "private-key", 5),
    "netrc": Planted("/root/.netrc", b"machine example.org login me password secret\n", "netrc"),
    "pip credentials": Planted(
        "/etc/pip.conf", b"[global]\nindex-url = https://me:secret@example.org/simple\n", "pip configuration of the build"
    ),
    "apt credentials": Planted("/etc/apt/auth.conf", b"machine example.org login me password secret\n", "apt credentials"),
    "apt source with a password": Planted(
        "/etc/apt/sources.list", b"deb https://me:secret@example.org/debian trixie main\n", "credentials in a URL", 1
    ),
    "git credentials": Planted("/home/notebook/.git-credentials", b"https://me:secret@example.org\n", "git credentials"),
    "shell history": Planted("/root/.bash_history", b"export TOKEN=secret\n", "shell history"),
    "cloud-init user data": Planted("/var/lib/cloud/instance/user-data.txt", b"#!/bin/sh\n", "cloud-init state"),
    "TLS key": Planted(*planted_secrets()["TLS key"], "private-key", 1),
    "password hash": Planted("/var/lib/bakehouse/password-hash", b"argon2:$argon2id$v=19$m=1\n", "password hash"),
    "cookie secret": Planted("/var/lib/bakehouse/cookie-secret", b"c2VjcmV0\n", "cookie secret"),
    "machine-id": Planted("/var/lib/dbus/machine-id", b"0123456789abcdef0123456789abcdef\n", "machine-id"),
}
