// What a function at the edge does: `fetch` with an Authorization header. Reads a JSON list of {url, id, token} from
// standard input, and prints the statuses as JSON. NODE_EXTRA_CA_CERTS names the authority.
import { readFileSync } from "node:fs";

async function statuses({ url, id, token }) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const document = `/document/v1/ns/music/docid/${encodeURIComponent(id)}`;
  const query = JSON.stringify({ yql: "select * from music where true" });
  const body = JSON.stringify({ fields: { title: "x" } });
  const operations = [
    ["query by GET", "GET", "/search/?yql=select%20*%20from%20music%20where%20true"],
    ["query", "POST", "/search/", query],
    ["get", "GET", document],
    // Before the document is put back, for whoever comes next.
    ["remove", "DELETE", document],
    ["put", "POST", document, body],
  ];
  const answers = [];
  for (const [name, method, path, body] of operations) {
    const answer = await fetch(url + path, { method, headers, body });
    await answer.arrayBuffer();
    answers.push([name, answer.status]);
  }
  return answers;
}

const answers = [];
for (const entry of JSON.parse(readFileSync(0, "utf8"))) answers.push(await statuses(entry));
console.log(JSON.stringify(answers));
