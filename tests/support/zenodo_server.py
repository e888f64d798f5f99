"""A server on loopback that answers as developers.zenodo.org documents the deposit API, and fails on request."""

import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.faulty_service import FaultyService

TOKEN = "the-token-of-the-test"


class Zenodo(FaultyService):
    """The records of one user.

    Attributes:
        quota: bytes that the files of a record may have.
    """

    token = TOKEN

    def __init__(self) -> None:
        super().__init__()
        self.quota = 50 * 10**9
        self.depositions: dict[int, dict[str, Any]] = {}
        self.buckets: dict[int, dict[str, bytes]] = {}

    @property
    def visible(self) -> dict[int, dict[str, bytes]]:
        """The public files: those of published records."""
        return {number: self.buckets[number] for number, one in self.depositions.items() if one["submitted"]}

    def refusal(self, status: int) -> dict[str, Any]:
        return {"message": "as the test asks", "status": status}

    def answer(self, verb: str, url: str, body: bytes, known: bool) -> tuple[int, Any]:
        if not known:
            return 401, {"message": "The server could not verify that you are authorized."}
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if verb == "GET" and path == "/api/deposit/depositions":
            size, page = int(query["size"][0]), int(query["page"][0])
            newest = sorted(self.depositions, reverse=True)
            return 200, [self.shown(number) for number in newest[(page - 1) * size : page * size]]
        if verb == "POST" and path == "/api/deposit/depositions":
            return 201, self.shown(self.new({}))
        if match := re.fullmatch(r"/api/deposit/depositions/(\d+)(?:/(actions/\w+|files/[\w-]+))?", path):
            number, rest = int(match[1]), match[2]
            if number not in self.depositions:
                return 404, {"message": "PID does not exist."}
            return self.of_deposition(verb, number, rest, body)
        if match := re.fullmatch(r"/api/files/b-(\d+)/(.+)", path):
            return self.of_file(verb, int(match[1]), unquote(match[2]), body)
        return 404, {"message": "no such address"}

    def of_deposition(self, verb: str, number: int, rest: str | None, body: bytes) -> tuple[int, Any]:
        one = self.depositions[number]
        if verb == "PUT" and rest is None:
            if one["submitted"]:
                return 403, {"message": "published"}
            metadata = json.loads(body)["metadata"]
            if not metadata.get("creators"):
                return 400, {"message": "Validation error.", "errors": [{"field": "metadata.creators", "message": "?"}]}
            one["metadata"] = {**metadata, "prereserve_doi": one["metadata"]["prereserve_doi"]}
        elif verb == "DELETE" and rest:
            names = {hashlib.md5(name.encode()).hexdigest(): name for name in self.buckets[number]}
            del self.buckets[number][names[rest.removeprefix("files/")]]
            return 204, None
        elif verb == "POST" and rest == "actions/publish":
            one |= {"submitted": True, "doi": one["metadata"]["prereserve_doi"]["doi"]}
            return 202, self.shown(number)
        elif verb == "POST" and rest == "actions/newversion":
            new = self.new(one["metadata"])
            self.buckets[new] = dict(self.buckets[number])
            answer = self.shown(number)
            answer["links"]["latest_draft"] = f"{self.address}/api/deposit/depositions/{new}"
            return 201, answer
        return 200, self.shown(number)

    def of_file(self, verb: str, number: int, name: str, body: bytes) -> tuple[int, Any]:
        bucket = self.buckets[number]
        if verb == "PUT":
            if sum(len(data) for other, data in bucket.items() if other != name) + len(body) > self.quota:
                return 400, {"message": "Bucket quota exceeded.", "status": 400}
            bucket[name] = body
            return 201, {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        return (200, bucket[name]) if name in bucket else (404, {})

    def new(self, metadata: dict[str, Any]) -> int:
        number = 1000 + len(self.depositions)
        reserved = {"doi": f"10.5281/zenodo.{number}", "recid": number}
        self.depositions[number] = {"submitted": False, "metadata": {**metadata, "prereserve_doi": reserved}}
        self.buckets[number] = {}
        return number

    def shown(self, number: int) -> dict[str, Any]:
        files = [
            {
                "id": hashlib.md5(name.encode()).hexdigest(),
                "filename": name,
                "filesize": len(data),
                "checksum": hashlib.md5(data).hexdigest(),
            }
            for name, data in self.buckets[number].items()
        ]
        links = {
            "bucket": f"{self.address}/api/files/b-{number}",
            "html": f"{self.address}/deposit/{number}",
            "record_html": f"{self.address}/records/{number}",
        }
        return {**self.depositions[number], "id": number, "files": files, "links": links}
