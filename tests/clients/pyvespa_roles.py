"""Runs the operations of pyvespa for each credential in the JSON list on standard input, and prints the statuses as JSON.

An entry has `url`, `id` (of a document), and `cert` and `key`, or `token`. HTTPR_CA_BUNDLE names the authority.
"""

import asyncio
import json
import sys

from vespa.application import Vespa
from vespa.retries import NO_RETRY

FIELDS = {"title": "x"}
NAMES = {"schema": "music", "namespace": "ns"}


def status_of(operation):
    """The status that the server answered; an error without an answer is the operation's failure."""
    try:
        return operation().status_code
    except Exception as error:
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if response is None:
            raise
        return response.status_code


def feed(app, document):
    answers = []
    app.feed_iterable(
        [{"id": document, "fields": FIELDS}], callback=lambda answer, _: answers.append(answer), num_retries_429=0, **NAMES
    )
    return answers[0]


async def query_http2(app):
    async with app.asyncio() as session:
        return await session.query({"yql": "select * from music where true"}, retry_policy=NO_RETRY)


def statuses(entry):
    if "token" in entry:
        app = Vespa(url=entry["url"], vespa_cloud_secret_token=entry["token"])
    else:
        app = Vespa(url=entry["url"], cert=entry["cert"], key=entry["key"])
    document = entry["id"]
    with app.syncio() as session:
        session.num_retries_429 = 0
        operations = {
            "status": lambda: session._request_with_retry("GET", app.end_point + "/ApplicationStatus"),
            "query": lambda: session.query({"yql": "select * from music where true"}),
            "query over HTTP/2": lambda: asyncio.run(query_http2(app)),
            "get": lambda: session.get_data(data_id=document, raise_on_not_found=True, **NAMES),
            "visit": lambda: [page for pages in session.visit("music", **NAMES) for page in pages][-1],
            # Before those that put the document back, for whoever comes next.
            "remove": lambda: session.delete_data(data_id=document, **NAMES),
            "feed": lambda: feed(app, document),
            "put": lambda: session.feed_data_point(data_id=document, fields=FIELDS, **NAMES),
            "update": lambda: session.update_data(data_id=document, fields=FIELDS, **NAMES),
        }
        return [[name, status_of(operation)] for name, operation in operations.items()]


json.dump([statuses(entry) for entry in json.load(sys.stdin)], sys.stdout)
