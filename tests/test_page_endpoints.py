"""The endpoints for programs: answers, refusals in words, jobs, MCP tools, and a quick end."""

from __future__ import annotations

import asyncio
import base64
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from page_server import serving, write_zip

from metad2a.page.values import SPACE

pytestmark = pytest.mark.slow
FILE = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving("mcp") as (address, _):
        yield address.rstrip("/")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    from gradio_client import Client

    client = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    yield client
    client.close()


@pytest.fixture
def flowers(tmp_path: Path) -> Any:
    from gradio_client import handle_file

    return handle_file(write_zip(tmp_path / "flowers.zip", {"daisy": 5, "tulip": 4}))


def call(address: str, session: str, *data: Any) -> str:
    """Ask for suggestions as someone's own program would; return the raw answer."""
    asked = httpx.post(
        f"{address}/gradio_api/call/suggest", json={"data": list(data), "session_hash": session}
    )
    event = asked.json()["event_id"]
    return httpx.get(f"{address}/gradio_api/call/suggest/{event}", timeout=180).text


def test_suggest_and_check_dataset(client: Any, flowers: Any) -> None:
    answer = client.predict(flowers, k=3, api_name="/suggest")
    assert [c["rank"] for c in answer["candidates"]] == [1, 2, 3]
    assert all(c["svg"].startswith("<svg ") for c in answer["candidates"])
    assert answer["report"]["images"] == 9
    cells = client.predict(flowers, k=3, space="nasbench201", api_name="/suggest")
    assert {one["space"] for one in cells["candidates"]} == {"nasbench201"}
    assert len(cells["nearest"]) > 0 and cells["far"] in (True, False)
    assert client.predict(flowers, api_name="/check_dataset")["classes"] == 2
    with pytest.raises(Exception, match="max_params=1 cannot be met"):
        client.predict(example="shapes", max_params=1, api_name="/suggest")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": "many"}, "k='many' must be a whole number from 1 to 20"),
        ({"k": 2.5}, "k=2.5 must be"),
        ({"k": True}, "k=True must be"),
        ({"k": None}, "k=None must"),
        ({"k": 21}, "k=21 must be"),
        ({"max_macs": -1}, "max_macs=-1 must be"),
        ({"max_params": [1]}, "max_params="),
        ({"example": 7}, "example=7 must be a text"),
        ({"example": "<b>"}, "There is no example '<b>'"),
        ({"example": ""}, "Give either a file or"),
        ({"file": 3}, "file must be an uploaded file"),
    ],
)
def test_wrong_types_are_told_clearly(client: Any, arguments: dict[str, Any], words: str) -> None:
    example = {} if "file" in arguments else {"example": "shapes"}
    with pytest.raises(Exception, match=r"must|no example|either") as caught:
        client.predict(**{**example, **arguments}, api_name="/suggest")
    assert words in str(caught.value)


def test_w_files_of_others_and_of_the_server_are_refused(address: str, tmp_path: Path) -> None:
    content = write_zip(tmp_path / "flowers.zip", {"daisy": 5, "tulip": 4}).read_bytes()

    def send() -> str:
        posted = httpx.post(
            f"{address}/gradio_api/upload", files={"files": ("flowers.zip", content)}
        )
        return str(posted.json()[0])

    mine, yours = send(), send()
    assert Path(mine).parent != Path(yours).parent, "each upload has a folder of its own"
    given = {"path": mine, "meta": FILE}
    assert "event: complete" in call(address, "me", given, "", 1, 0, 0, SPACE)
    assert "event: complete" in call(address, "me", given, "", 1, 0, 0, SPACE)
    assert "not uploaded by you" in call(address, "you", given, "", 1, 0, 0, SPACE)
    for path in ("/etc/passwd", f"{mine}/../../x", "http://169.254.169.254/x.zip", __file__):
        for file in ({"path": path, "meta": FILE}, {"path": path}, path):
            answer = call(address, "you", file, "", 1, 0, 0, SPACE)
            assert "event: error" in answer and "Traceback" not in answer
    for path in (yours, "/etc/passwd", "http://169.254.169.254/", f"{address}/"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code == 403


def test_w_a_program_that_uploads_too_much_gets_413(address: str) -> None:
    from metad2a.settings import LIMITS

    def endless() -> Iterator[bytes]:
        yield (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n'
            b"Content-Type: application/zip\r\n\r\n"
        )
        for _ in range(LIMITS.upload_bytes // 2**22 + 2):
            yield bytes(2**22)

    answer = httpx.post(
        f"{address}/gradio_api/upload",
        content=endless(),
        timeout=180,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 413


def test_check_measures_and_a_cancelled_refinement_leaves_no_process(client: Any) -> None:
    answer = client.predict(example="shapes", k=2, minutes=0.1, api_name="/check")
    assert answer["state"] == "done"
    assert [c["measured"] and c["measured"]["accuracy"] for c in answer["candidates"]] == [90, None]
    job = client.submit(example="shapes", k=2, minutes=5, api_name="/refine")
    until(lambda: job.outputs() and job.outputs()[-1]["stage"] == "DropNas")
    job.cancel()
    # The one seat is free again at once.
    answer = client.predict(example="shapes", k=2, minutes=0.1, api_name="/check")
    assert answer["state"] == "done"
    with pytest.raises(Exception, match=r"minutes=99 must be a number from 0\.1 to 10"):
        client.predict(example="shapes", minutes=99, api_name="/check")


def test_mcp_tools(address: str, tmp_path: Path) -> None:
    mcp = pytest.importorskip("mcp", reason="the extra gradio[mcp] is not installed")
    from mcp.client import streamable_http

    content = write_zip(tmp_path / "flowers.zip", {"daisy": 5, "tulip": 4}).read_bytes()
    data = f"data:application/zip;base64,{base64.b64encode(content).decode()}"

    async def talk() -> tuple[dict[str, Any], list[Any]]:
        connect = streamable_http.streamablehttp_client(f"{address}/gradio_api/mcp/")
        async with connect as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            answers = [
                await session.call_tool("suggest", arguments)
                for arguments in (
                    {"file": data, "k": 1},
                    {"example": "shapes", "k": "many"},
                    {"file": "/etc/passwd"},
                    {"file": "http://169.254.169.254/x.zip"},
                )
            ]
            return tools, answers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client, which renamed its function
        tools, (fine, *wrong) = asyncio.run(talk())
    assert set(tools) == {"suggest", "check_dataset", "check", "refine", "train"}
    assert "predicted to do best" in tools["suggest"].description
    assert not fine.isError and "architecture" in fine.content[0].text
    assert all(answer.isError for answer in wrong)
    assert "'many' is not of type 'integer'" in wrong[0].content[0].text
    assert "must be an uploaded file" in wrong[1].content[0].text


def test_w_sigterm_ends_within_ten_seconds_even_during_a_job() -> None:
    from gradio_client import Client

    with serving() as (address, server):
        client = Client(address, verbose=False, analytics_enabled=False)
        job = client.submit(example="shapes", k=1, minutes=5, api_name="/refine")
        until(job.outputs)
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        client.close()


def until(condition: Any, seconds: float = 240) -> None:
    """Wait for something that must happen soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
