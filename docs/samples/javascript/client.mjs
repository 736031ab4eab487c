// Brings a task of OCP to its end: it retries each subtask that has failed.

async function call(method, url) {
  const authorization = "Basic " + Buffer.from("manager:manager").toString("base64");
  const response = await fetch(url, {method, headers: {authorization}});
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status}`);
  return (await response.json()).data;
}

/** Polls a task, at most so many times, and retries what has failed; `wait` is called between polls. */
export async function bringToSuccess(url, polls, wait) {
  for (; polls > 0; polls--) {
    const task = await call("GET", url);
    if (task.status === "SUCCESSFUL") return;
    for (const subtask of task.status === "FAILED" ? task.subtasks : []) {
      if (subtask.status === "FAILED") await call("POST", `${url}/subtasks/${subtask.id}/retry`);
    }
    await wait();
  }
  throw new Error(`${url} has not become SUCCESSFUL`);
}
