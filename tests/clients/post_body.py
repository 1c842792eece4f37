"""Sends a file with Python's http.client, which reads nothing before it has written all, and prints the status and the body.

    post_body.py PORT CA CERTIFICATE KEY FILE PATH [FIELD=VALUE]...
"""

import http.client
import ssl
import sys

port, ca, certificate, key, body, path, *fields = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(certificate, key)
connection = http.client.HTTPSConnection("localhost", int(port), context=context, timeout=50)
with open(body, "rb") as file:
    connection.request("POST", path, body=file, headers=dict(field.split("=", 1) for field in fields))
    answer = connection.getresponse()
    print(answer.status, answer.read().decode().strip())
# On the same connection, unless the server has said that it ends.
if not answer.will_close:
    connection.request("GET", "/after")
    print(connection.getresponse().status)
