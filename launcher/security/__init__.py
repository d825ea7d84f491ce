"""Which packages of an image lack a fix: security updates of Debian and Ubuntu, known vulnerabilities of Python packages."""
