"""Files that look as if they held secrets but hold none: those of real packages, and what toolchains and people write."""

from __future__ import annotations

import os
import re
import site
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path

from tests.planted_secrets import notebook, planted_secrets

_FROM_PACKAGES = 170
_SUSPICIOUS = re.compile(
    rb"PRIVATE KEY-----|://[a-z]+:[a-z0-9*]+@|\bAKIA[0-9A-Z]{16}"
    rb"|(?i:password|passwd|secret|token|api_?key)[\"']? ?[=:] ?[\"'][^\"']"
)
_SIZE_BYTES_MAX = 64 * 1024
_OF_A_PACKAGE_MAX = 80
_LOOKED_AT_MAX = 300
"""How many files of each package are read at most: the environment has 40,000."""
_SUFFIXES = (".py", ".rst", ".md", ".txt", ".json", ".js", ".html", ".yaml", ".cfg")


@cache
def innocent_files() -> Mapping[str, bytes]:
    """Return some 200 files by path. None is where a package manager accounts for it, but for those of toolchains."""
    made = {path: text.encode() for path, text in {**_of_toolchains(), **_of_people()}.items()}
    files = {**made, **dict(_of_packages(_FROM_PACKAGES))}
    assert len(files) >= 195
    return files


def _of_packages(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield suspicious files of Python packages that are installed with the tests, as copies in a project of the user."""
    [folder] = {Path(path) for path in site.getsitepackages()}
    found = Counter[str]()
    for path in (path for package in sorted(folder.iterdir()) for path in islice(_texts(package), _LOOKED_AT_MAX)):
        package = path.relative_to(folder).parts[0]
        content = path.read_bytes() if found.total() < count and found[package] < _OF_A_PACKAGE_MAX else b""
        if 0 < len(content) <= _SIZE_BYTES_MAX and _SUSPICIOUS.search(content):
            found[package] += 1
            yield f"/srv/project/{path.relative_to(folder)}", content


def _texts(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(_SUFFIXES))


def _of_toolchains() -> dict[str, str]:
    key = {name: content.decode() for name, (_path, content) in planted_secrets().items() if b"PRIVATE KEY" in content}
    tls, ssh, curve = key["TLS key"], key["SSH key"], key["key in /usr/local"]
    return {
        "/usr/local/go/src/cmd/go/main.go": "package main\n",
        "/usr/local/go/src/crypto/tls/testdata/example-key.pem": curve,
        "/usr/local/go/src/crypto/tls/tls_test.go": f"var rsaKeyPEM = `{tls}`\n",
        "/usr/local/go/src/net/url/url_test.go": 'in: "http://user:p%40ssword@example.com/",\n',
        "/home/notebook/go/pkg/mod/golang.org/x/crypto@v0.30.0/ssh/testdata/keys.go": f"var key = []byte(`{ssh}`)\n",
        "/usr/local/lib/R/site-library/openssl/doc/keys.html": f"<pre>{tls}</pre>",
        "/usr/local/lib/R/site-library/httr/tests/testthat/test-url.r": 'parse_url("http://user:pass@google.com:80/")\n',
        "/usr/lib/node_modules/npm/docs/content/using-npm/config.md": "//registry.npmjs.org/:_authToken=MYTOKEN\n",
        "/usr/lib/node_modules/npm/node_modules/socks/docs/examples.md": "socks5://user:password1@proxy.example.com\n",
        "/home/notebook/web/node_modules/https-proxy/test/server.key": tls,
        "/opt/google-cloud-sdk/lib/googlecloudsdk/gcloud_main.py": "#!/usr/bin/env python\n",
        "/opt/google-cloud-sdk/lib/third_party/rsa/tests/private.pem": tls,
        "/opt/google-cloud-sdk/platform/gsutil/gslib/tests/test_data/test.p12.pem": curve,
        "/usr/share/doc/libxmlsec1-dev/examples/rsakey.pem": tls,
    }


def _of_people() -> dict[str, str]:
    header, footer = (f"-----{word} RSA PRIVATE KEY-----" for word in ("BEGIN", "END"))
    aws_id, aws_secret = "AKIAIOSFODNN7" + "EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
    jwt = ".".join(
        ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ")
    )
    home = "/home/notebook"
    return {
        f"{home}/README.md": "Clone it with https://user:password@example.com/x.git, or set a token.\n",
        f"{home}/docs/aws.md": f"export AWS_ACCESS_KEY_ID={aws_id}\nexport AWS_SECRET_ACCESS_KEY={aws_secret}\n",
        f"{home}/docs/jwt.md": f"Authorization: Bearer {jwt}.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c\n",
        f"{home}/docs/keys.md": f"A key looks like this:\n\n{header}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n...\n{footer}\n",
        f"{home}/work/pem.py": f'HEADER = "{header}"\nFOOTER = "{footer}"\n',
        f"{home}/work/tutorial.ipynb": notebook("engine = create_engine('postgresql://user:password@localhost/db')"),
        f"{home}/work/keys.ipynb": notebook(f"if key.startswith('{header}'):\n    print('a key')"),
        f"{home}/work/hub.ipynb": notebook("token = os.environ['HF_TOKEN']\nlogin(token='hf_" + "x" * 34 + "')"),
        f"{home}/work/.env.example": "OPENAI_API_KEY=sk-your-key-here\nDB_PASSWORD=correct-horse-battery\n",
        f"{home}/work/compose.yaml": "DATABASE_URL: postgres://postgres:postgres@db/app\nURL: https://me:${TOKEN}@example.com\n",
        f"{home}/.bashrc": 'export TOKEN="$(cat ~/token)"\nexport SSH_KEY=~/.ssh/id\nexport HF_TOKEN_PATH=/run/token\n',
        f"{home}/.npmrc": "registry=https://registry.npmjs.org/\n//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n",
        f"{home}/.gitconfig": "[user]\n\temail = me@example.com\n[credential]\n\thelper = cache\n",
        f"{home}/.condarc": "channels:\n  - conda-forge\n",
        f"{home}/.my.cnf": "[client]\nuser = me\n",
        "/etc/environment": "PATH=/usr/local/bin:/usr/bin\nLANG=C.UTF-8\n",
    }
