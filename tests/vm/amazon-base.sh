#!/bin/bash
# Turn a base of the local cloud into what stands for Debian's public AMI: cloud-init from Debian's own packages.
# What differs from the real one: the root disk is virtio, not NVMe; cloud-init does not configure the network; the mirrors are those
# of this computer; the packages that the AMI has besides (https://salsa.debian.org/cloud-team/debian-cloud-images) are missing.
set -Eeuo pipefail
# shellcheck source=/dev/null
source /run/bakehouse/build/env
export DEBIAN_FRONTEND=noninteractive
# Bytecode is compiled when a module is first imported: compiling all of it now takes minutes under emulation.
mkdir /run/without-bytecode
ln --symbolic /bin/true /run/without-bytecode/py3compile
path=(--option DPkg::Path=/run/without-bytecode:/usr/sbin:/usr/bin:/sbin:/bin)
apt-get --quiet update
apt-get --quiet --yes --no-install-recommends "${path[@]}" install acpid cloud-init dhcpcd-base

# The AMI's own settings: the user admin, and only EC2's metadata service.
cat >/etc/cloud/cloud.cfg.d/90_base.cfg <<'CLOUD'
datasource_list: [ Ec2 ]
network: {config: disabled}
apt_preserve_sources_list: true
system_info: {default_user: {name: admin}}
CLOUD

# The power button is what the server presses to stop a machine.
printf '%s\n' button evdev >/etc/modules-load.d/power.conf
printf '%s\n' 'event=button/power' 'action=/usr/bin/systemctl --no-block poweroff' >/etc/acpi/events/power

# How the local cloud tells a machine of itself is not how EC2 does.
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
Before=cloud-init.service cloud-final.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir --parents /run/bakehouse && chmod 0755 /run/bakehouse && cp --recursive /usr/share/mirrors/build /run/bakehouse/'

[Install]
WantedBy=multi-user.target
UNIT
systemctl --quiet enable mirrors.service
cloud-init clean --logs
apt-get clean
rm --recursive --force /var/lib/apt/lists/* /var/log/journal/* /etc/machine-id
touch /etc/machine-id
sync
systemctl --no-block poweroff --force
