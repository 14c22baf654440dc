"""NHS's mesh-sandbox on 127.0.0.1: sandbox.py FOLDER PORT [KEY CERTIFICATE CA]

FOLDER holds data/mailboxes.jsonl and data/workflows.jsonl, which the package would read from beside its own source, and
gets the messages, so that a sandbox that is started again still has them. With KEY and CERTIFICATE it speaks TLS and takes
clients with a certificate of CA only. Prints the port once it listens; PORT 0 lets the system choose. When its standard
input is a pipe it ends with it, so that it never outlives a test.
"""

import os
import pathlib
import socket
import ssl
import stat
import sys
import threading

folder = pathlib.Path(sys.argv[1])
os.environ.update(AUTH_MODE="full", STORE_MODE="file", MAILBOXES_DATA_DIR=str(folder / "messages"))
(folder / "messages").mkdir(exist_ok=True)

import mesh_sandbox.store.canned_store as canned_store  # noqa: E402

canned_store.__file__ = str(folder / "canned_store.py")

import uvicorn  # noqa: E402
from mesh_sandbox.api import app  # noqa: E402

if stat.S_ISFIFO(os.fstat(0).st_mode):
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
# Listening before it says so: whoever reads the port can connect.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[2])))
listener.listen(128)
tls = {}
if len(sys.argv) > 3:
    key, certificate, authority = sys.argv[3:6]
    tls = {
        "ssl_keyfile": key,
        "ssl_certfile": certificate,
        "ssl_ca_certs": authority,
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", workers=1, **tls)).run(sockets=[listener])
