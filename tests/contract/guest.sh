#!/bin/bash
# Run as root at each boot of a machine of the contract: tell of two checkpoints on the console. In the form of templates/script.sh.j2.
set -Eeuo pipefail
a='@NONCE_A@' b='@NONCE_B@' keep='0'

systemctl mask --now --quiet serial-getty@ttyS0.service
mkdir --parents /run/systemd/journald.conf.d
printf '%s\n' '[Journal]' ForwardToConsole=yes TTYPath=/dev/ttyS0 MaxLevelConsole=notice >/run/systemd/journald.conf.d/contract.conf
systemctl restart systemd-journald.service

mark() {
  printf '%s%s %s ;\n' "$a" "$b" "$1" | logger --tag bakehouse --id --priority user.notice
}

step() { # step SEQ NAME: run the script on standard input, unless the machine is to be kept from it
  if [[ $keep == 0 ]]; then
    bash
  fi
  mark "checkpoint $1/2 $2 ok"
}

mark 'checkpoint 1/2 boot ok'

step 2 written <<'END_OF_STEP'
touch /etc/contract
# What a machine needs to become somebody when it goes on from a memory: its user, and the program that gives it an identity.
id notebook >/dev/null 2>&1 || useradd --create-home notebook
mkdir --parents /var/lib/bakehouse /usr/lib/bakehouse
cat >/usr/lib/bakehouse/identity.py <<'IDENTITY'
@IDENTITY@
IDENTITY
sync
END_OF_STEP
