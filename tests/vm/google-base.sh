#!/bin/bash
# Turn a base of the local cloud into what stands for Google's public Debian image: its guest agent from Debian's own packages.
# What differs from the real one: an agent of 2021, no cloud kernel parameters of Google's, and the mirrors of this computer.
set -Eeuo pipefail
# shellcheck source=/dev/null
source /run/bakehouse/build/env
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet update
apt-get --quiet --yes --no-install-recommends install google-guest-agent acpid

# The power button is what the server presses to stop a machine.
printf '%s\n' button evdev >/etc/modules-load.d/power.conf
printf '%s\n' 'event=button/power' 'action=/usr/bin/systemctl --no-block poweroff' >/etc/acpi/events/power
printf '169.254.169.254 metadata.google.internal metadata\n' >>/etc/hosts

# How the local cloud tells a machine of itself is not how Google does.
systemctl --quiet disable bakehouse-facts.service bakehouse-script.service
rm /usr/lib/systemd/system/bakehouse-facts.service /usr/lib/systemd/system/bakehouse-script.service /usr/lib/bakehouse/facts

# Its network, too, is another: there addresses are leased.
cat >/etc/systemd/network/70-dhcp.network <<'NETWORK'
[Match]
Name=en* eth*

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
NETWORK

# The mirrors and certificates of this computer, without which no package is found from here.
mkdir --parents /usr/share/mirrors
cp --recursive /run/bakehouse/build /usr/share/mirrors/
cat >/usr/lib/systemd/system/mirrors.service <<'UNIT'
[Unit]
Description=Lay out the mirrors of the computer that runs the tests
Wants=network-online.target
After=network-online.target
Before=google-startup-scripts.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir --parents /run/bakehouse && chmod 0755 /run/bakehouse && cp --recursive /usr/share/mirrors/build /run/bakehouse/'

[Install]
WantedBy=multi-user.target
UNIT
systemctl --quiet enable mirrors.service
apt-get clean
rm --recursive --force /var/lib/apt/lists/* /var/log/journal/* /etc/machine-id
touch /etc/machine-id
sync
systemctl --no-block poweroff --force
