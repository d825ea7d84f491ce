"""The base that recipes start from: Debian, built on this computer with its own mirrors."""
