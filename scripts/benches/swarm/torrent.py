"""One libtorrent peer, run by Debian's own Python inside a host. It takes a line of JSON on standard input:

    {"torrent": FILE, "folder": FOLDER, "seed": true, "super": false}                    answered {"port": N} once it holds the torrent
    {"peers": [[ADDRESS, PORT], …]}                                                      connects, answered {"seconds": N} once all is here

and goes on serving until standard input ends. Everything is as libtorrent comes, but for what would not be fair to it or to the others:
no DHT and no search on the local network, since peers are told of each other by address, all at the same moment; and TCP alone, since
uTP, which it would try first, is several times slower on a line that nothing holds back.
"""

import json
import sys
import time

import libtorrent as lt


def make(folder, name, into):
    """Writes the torrent of `folder/name`, a file or a folder."""
    files = lt.file_storage()
    lt.add_files(files, f"{folder}/{name}")
    torrent = lt.create_torrent(files)
    lt.set_piece_hashes(torrent, folder)
    with open(into, "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def peer(address):
    said = json.loads(sys.stdin.readline())
    session = lt.session({"listen_interfaces": f"{address}:6881", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
                          "enable_natpmp": False, "enable_outgoing_utp": False, "enable_incoming_utp": False, "alert_mask": 0})
    add = lt.add_torrent_params()
    add.ti = lt.torrent_info(said["torrent"])
    add.save_path = said["folder"]
    add.flags = add.flags & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    if said["seed"]:
        add.flags |= lt.torrent_flags.seed_mode
    if said.get("super"):
        add.flags |= lt.torrent_flags.super_seeding
    handle = session.add_torrent(add)
    while handle.status().state in (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data):
        time.sleep(0.01)
    answer({"port": session.listen_port()})
    connect = json.loads(sys.stdin.readline() or "{}")
    began = time.monotonic()
    for other in connect.get("peers", []):
        handle.connect_peer(tuple(other))
    while not handle.status().is_seeding:
        time.sleep(0.02)
    answer({"seconds": time.monotonic() - began})
    sys.stdin.read()


def answer(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:5])
    else:
        peer(sys.argv[2])
