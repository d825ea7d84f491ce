# shellcheck shell=sh
# Customize the tree of a base into Debian's public AMI: cloud-init with the settings of the AMI.
# What differs from the real one: the root disk is virtio, not NVMe; cloud-init does not configure the network; the packages that the
# AMI has besides (https://salsa.debian.org/cloud-team/debian-cloud-images) are missing.

# The user admin, and only EC2's metadata service.
cat >/etc/cloud/cloud.cfg.d/90_base.cfg <<'CLOUD'
datasource_list: [ Ec2 ]
network: {config: disabled}
apt_preserve_sources_list: true
system_info: {default_user: {name: admin}}
CLOUD
