# shellcheck shell=sh
# Customize the tree of a base into a cloud's public image: the part that all clouds share. It runs after the base's own customize
# script, in the same shell (`set -eu`), and before the part of the cloud.

# The test server presses the power button to stop a machine.
printf '%s\n' button evdev >/etc/modules-load.d/power.conf
printf '%s\n' 'event=button/power' 'action=/usr/bin/systemctl --no-block poweroff' >/etc/acpi/events/power

# A machine gets facts, script and address from the servers of its cloud, not from QEMU.
systemctl --quiet disable bakehouse-facts.service bakehouse-script.service
rm /usr/lib/systemd/system/bakehouse-facts.service /usr/lib/systemd/system/bakehouse-script.service /usr/lib/bakehouse/facts
cat >/etc/systemd/network/70-dhcp.network <<'NETWORK'
[Match]
Name=en* eth*

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
NETWORK

# Without the mirrors and certificates of this computer a machine finds no packages. Their files may contain passwords.
chmod 0600 /usr/share/mirrors/build/*
[ ! -e /usr/share/mirrors/build/ca.crt ] || chmod 0644 /usr/share/mirrors/build/ca.crt
printf '%s\n' 'd /run/bakehouse 0755' 'C /run/bakehouse/build - - - - /usr/share/mirrors/build' >/usr/lib/tmpfiles.d/mirrors.conf
