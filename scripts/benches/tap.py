"""Opens a TAP device of this network namespace as a descriptor of the command that it then becomes.

    tap.py DEVICE DESCRIPTOR offload|plain COMMAND…

`offload` lets the kernel hand over packets that it has not yet cut: far fewer of them. The device exists already and its frames
have a virtio header (`ip tuntap add … mode tap vnet_hdr`).
"""

import contextlib
import fcntl
import os
import struct
import sys

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
# Checksums, TCP over IPv4 and IPv6; UDP over both, which Linux knows since 6.2.
TCP_UNCUT, UDP_UNCUT = 0x01 | 0x02 | 0x04, 0x20 | 0x40


def main():
    device, descriptor, offload, *command = sys.argv[1:]
    opened = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    if offload == "offload":
        fcntl.ioctl(opened, TUNSETOFFLOAD, TCP_UNCUT)
        with contextlib.suppress(OSError):
            fcntl.ioctl(opened, TUNSETOFFLOAD, TCP_UNCUT | UDP_UNCUT)
    os.dup2(opened, int(descriptor), inheritable=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
