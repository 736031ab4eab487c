import assert from "node:assert/strict";
import test from "node:test";
import {bringToSuccess} from "./client.mjs";

/** Sends JSON to oceanmock's admin API. */
const post = (path, body) =>
  fetch(`${process.env.OCEANMOCK_URL}/__admin/sandboxes${path}`, {method: "POST", body: JSON.stringify(body)});

test("a retry brings the task to success", async () => {
  const body = {scenarios: ["retry-failed-subtask"], progression: "polls", ttl: "10m"};
  const {name, urls} = await (await post("", body)).json();

  await bringToSuccess(`${urls.path}/api/v2/tasks/instances/1000`, 50, () => {});

  const query = {query: {operation: "retrySubtask", subtask: 1002}, times: 1};
  const verified = await post(`/${name}/journal/verify`, query);
  assert.equal(verified.status, 200, (await verified.json()).message);
});
