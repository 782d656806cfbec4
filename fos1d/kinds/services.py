"""Service names and their ports.

A table of our own and not the router's /etc/services, so that a manifest means the same on every
router and in CI. The names are IANA's (service-names-port-numbers), with the aliases that netbase
has; a name here has one number for all its protocols.
"""

from __future__ import annotations

from collections.abc import Mapping

_TABLE = """
echo 7  discard 9  systat 11  daytime 13  qotd 17  chargen 19  ftp-data 20  ftp 21  ssh 22
telnet 23  smtp 25  mail 25  time 37  whois 43  tacacs 49  domain 53  dns 53  bootps 67
bootpc 68  tftp 69  gopher 70  finger 79  http 80  www 80  kerberos 88  iso-tsap 102  pop3 110
sunrpc 111  portmapper 111  auth 113  ident 113  nntp 119  ntp 123  epmap 135  netbios-ns 137
netbios-dgm 138  netbios-ssn 139  imap 143  imap2 143  snmp 161  snmp-trap 162  snmptrap 162
xdmcp 177  bgp 179  ptp-event 319  ptp-general 320  ldap 389  https 443  microsoft-ds 445
kpasswd 464  submissions 465  smtps 465  isakmp 500  syslog 514  printer 515  route 520
dhcpv6-client 546  dhcpv6-server 547  afpovertcp 548  rtsp 554  nntps 563  submission 587
asf-rmcp 623  ipp 631  ldaps 636  ldp 646  domain-s 853  rsync 873  ftps-data 989  ftps 990
telnets 992  imaps 993  pop3s 995  socks 1080  openvpn 1194  ms-sql-s 1433  ms-sql-m 1434
l2tp 1701  radius 1812  radius-acct 1813  nfs 2049  zebra 2601  ospfd 2604  bgpd 2605
ospf6d 2606  dict 2628  gpsd 2947  icp 3130  isns 3205  iscsi-target 3260  mysql 3306
ms-wbt-server 3389  nut 3493  stun 3478  turn 3478  distcc 3632  daap 3689  svn 3690  sieve 4190
epmd 4369  ntske 4460  ipsec-nat-t 4500  iax 4569  vxlan 4789  munin 4949  sip 5060  sip-tls 5061
sips 5061  xmpp-client 5222  xmpp-server 5269  stuns 5349  turns 5349  mdns 5353  postgresql 5432
postgres 5432  coap 5683  coaps 5684  nrpe 5666  nsca 5667  amqps 5671  amqp 5672  x11 6000
geneve 6081  redis 6379  syslog-tls 6514  ircd 6667  babel 6696  ircs-u 6697  http-alt 8080
puppet 8140  https-alt 8443  mqtt 1883  secure-mqtt 8883  bacula-dir 9101  bacula-fd 9102
bacula-sd 9103  git 9418  webmin 10000  zabbix-agent 10050  zabbix-trapper 10051  nbd 10809
hkp 11371
"""


def _read(table: str) -> dict[str, int]:
    words = table.split()
    return {name: int(port) for name, port in zip(words[::2], words[1::2], strict=True)}


PORTS: Mapping[str, int] = _read(_TABLE)
