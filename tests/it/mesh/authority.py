"""An authority's side of MESH by NHS's own mesh-client: one command on each line of standard input, one answer on each line
of standard output, both JSON.

authority.py URL SHARED_KEY [CERTIFICATE KEY CA]

    {"do": "send", "from": "LAZ9A001", "to": "CPISHC001", "workflow": "...", "body": BASE64, "chunk": 1000, "gzip": true,
     "zeros": 5, "headers": {"local_id": "...", "filename": "...", "content_type": "..."}}      -> {"id": "..."}
    {"do": "list", "mailbox": "..."}                                                -> {"ids": [...]}
    {"do": "take", "mailbox": "..."}     downloads and acknowledges all that waits  -> {"messages": [{...}]}
    {"do": "track", "mailbox": "...", "id": "..."}                                  -> {"status": "..."}
    {"do": "unacknowledge", "id": "..."} the message waits again, by the sandbox's own door -> {}
    {"do": "report", ...}                an error report by the sandbox's own door  -> {}
"""

import base64
import json
import sys
import tempfile

import requests
from mesh_client import MeshClient

url, key = sys.argv[1], sys.argv[2].encode()
certificate = tuple(sys.argv[3:5]) if len(sys.argv) > 3 else None
authority = sys.argv[5] if len(sys.argv) > 3 else False


def client(mailbox, chunk=75 * 1024 * 1024, gzip=False):
    return MeshClient(
        url,
        mailbox,
        "password",
        shared_key=key,
        verify=authority,
        cert=certificate,
        check_hostname=False,
        max_chunk_size=chunk,
        transparent_compress=gzip,
    )


def taken(message):
    names = ("message_id", "sender", "recipient", "workflow_id", "local_id", "filename", "subject", "message_type")
    shown = {name: getattr(message, name, None) for name in names}
    shown["status_code"] = message.mex_header("statuscode")
    shown["content_type"] = message.mex_header("content-type")
    shown["chunks"] = message.mex_header("total-chunks")
    shown["body"] = base64.b64encode(message.read()).decode()
    return shown


def answer(asked):
    do = asked["do"]
    if do == "send":
        with client(asked["from"], asked.get("chunk") or 75 * 1024 * 1024, asked.get("gzip", False)) as sender:
            body = base64.b64decode(asked["body"])
            if "zeros" in asked:  # that many bytes, of which none is on the disk
                body = tempfile.TemporaryFile()
                body.truncate(asked["zeros"])
            sent = sender.send_message(asked["to"], body, workflow_id=asked["workflow"], **asked.get("headers", {}))
            return {"id": sent}
    if do == "list":
        with client(asked["mailbox"]) as reader:
            return {"ids": reader.list_messages()}
    if do == "take":
        messages = []
        with client(asked["mailbox"]) as reader:
            for message_id in reader.list_messages():
                with reader.retrieve_message(message_id) as message:
                    messages.append(taken(message))
        return {"messages": messages}
    if do == "track":
        with client(asked["mailbox"]) as sender:
            return {"status": sender.track_message(asked["id"])["status"]}
    if do == "report":
        told = requests.post(f"{url}/messageexchange/admin/report", json=asked["report"], timeout=10)
        told.raise_for_status()
        return {}
    if do == "unacknowledge":
        event = {"status": "accepted"}
        told = requests.post(f"{url}/messageexchange/admin/message/{asked['id']}/event", json=event, timeout=10)
        told.raise_for_status()
        return {}
    raise ValueError(do)


for line in sys.stdin:
    try:
        said = answer(json.loads(line))
    except Exception as fault:  # the test shows it and fails
        said = {"fault": f"{type(fault).__name__}: {fault}"}
    print(json.dumps(said), flush=True)
