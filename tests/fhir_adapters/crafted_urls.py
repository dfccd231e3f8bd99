"""URLs that try to lead a client elsewhere: to a listener on loopback, or around an allow-list."""

from __future__ import annotations

FORBIDDEN_ADDRESSES = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # the metadata service of clouds
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a00:1::",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b:1:7f00:0:100:808:808",  # local NAT64 of 127.0.0.1, with a public address behind it
    "64:ff9b:1::808:808",
    "::127.0.0.1",  # IPv4-compatible
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "2001:0:1::8080:fefe",  # Teredo of 127.127.1.1
    "2001:0:a00:1::f7f7:f7f7",  # Teredo of 8.8.8.8 by way of 10.0.0.1
    "2001:db8::1",
    "192.0.0.192",  # metadata services and agents of clouds, at addresses that pass for public
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "192.88.99.1",
    "fec0::1",
    "3fff::1",
)


def crafted(port: int, allowed: str = "https://fhir.example.org/r4") -> tuple[str, ...]:
    """Values for `fhirServer`, `jku` and `next` that aim at 127.0.0.1:`port` while `allowed` is what may be asked."""
    host = allowed.split("//")[1].split("/")[0]
    return (
        f"http://127.0.0.1:{port}/fhir",
        f"http://localhost:{port}/fhir",
        f"https://127.0.0.1:{port}/fhir",
        f"http://[::ffff:127.0.0.1]:{port}/fhir",
        f"http://[::1]:{port}/fhir",
        f"http://0.0.0.0:{port}/fhir",
        f"http://[::]:{port}/fhir",
        f"http://[::ffff:7f00:1]:{port}/fhir",
        f"http://[::127.0.0.1]:{port}/fhir",
        f"http://[::1%25lo]:{port}/fhir",
        f"http://LOCALHOST:{port}/fhir",
        f"http://localhost.:{port}/fhir",
        f"http://127%2e0%2e0%2e1:{port}/fhir",
        f"https://{host}%40127.0.0.1:{port}/r4",
        f"http://127.0.0.1:{port}.evil.example/r4",
        f"{allowed}.127.0.0.1:{port}/r4",
        f"https://{host}#@127.0.0.1:{port}/r4",
        f"https://{host}?@127.0.0.1:{port}/r4",
        f"{allowed}/../admin",
        f"{allowed}/%2e%2e/admin",
        f"http://127.1:{port}/fhir",
        f"http://2130706433:{port}/fhir",
        f"http://0x7f000001:{port}/fhir",
        f"http://0177.0.0.1:{port}/fhir",
        f"http://0x7f.0.0.0x1:{port}/fhir",
        f"http://127.0.0.1.:{port}/fhir",
        f"http://①②⑦.0.0.1:{port}/fhir",
        f"http://１２７.０.０.１:{port}/fhir",
        f"http://127。0。0。1:{port}/fhir",
        f"http://{host}@127.0.0.1:{port}/r4",
        f"https://{host}:443@127.0.0.1:{port}/r4",
        f"http://127.0.0.1:{port}#@{host}/r4",
        f"http://127.0.0.1:{port}\\@{host}/r4",
        f"http://127.0.0.1:{port}?{allowed}",
        f"https://{host}.127.0.0.1.nip.example:{port}/r4",
        f"{allowed}/../../@127.0.0.1:{port}/",
        f"//127.0.0.1:{port}/fhir",
        f"HTTP://127.0.0.1:{port}/fhir",
        f"http:/127.0.0.1:{port}/fhir",
        f" http://127.0.0.1:{port}/fhir",
        f"http://127.0.0.1:{port}/fhir\r\nX: 1",
        f"http://127.0.0.1\t:{port}/fhir",
        f"http://127.0.0.1\n:{port}/fhir",
        f"ht\ttp://127.0.0.1:{port}/fhir",
        f"\\\\127.0.0.1:{port}\\fhir",
        f"gopher://127.0.0.1:{port}/_GET",
        f"ftp://127.0.0.1:{port}/",
        f"dict://127.0.0.1:{port}/stat",
        f"ws://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
        "unix:///var/run/docker.sock",
        "http://169.254.169.254/latest/meta-data/",
        f"{allowed}%2f..%2f@127.0.0.1:{port}",
        "",
    )
