// The programs of the client matrix for @huggingface/hub: `node client.mjs OPERATION FIXTURE`.
import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, relative } from "node:path";

// Installed by scripts/test, apart from the sources.
const hub = createRequire(join(process.env.HUBLESS_TEST_CLIENTS, "js", "client.mjs"))("@huggingface/hub");

const [operation, fixture] = process.argv.slice(2);
const hubUrl = process.env.HF_ENDPOINT;
const repo = { type: "model", name: "acme/tiny" };

async function files(folder) {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = found.filter((one) => !one.isDirectory()).map((one) => join(one.parentPath ?? one.path, one.name));
  return new Map(await Promise.all(paths.map(async (path) => [relative(folder, path), await readFile(path)])));
}

async function all(generator) {
  const found = [];
  for await (const one of generator) found.push(one);
  return found;
}

async function same(name, folder) {
  const [expected, found] = [await files(join(fixture, name)), await files(folder)];
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
  for (const [path, data] of expected) assert.ok(found.get(path).equals(data), path);
}

const bytes = async (blob) => Buffer.from(await blob.arrayBuffer());

const operations = {
  async look() {
    const expected = await files(join(fixture, repo.name));
    const info = await hub.modelInfo({ name: repo.name, hubUrl, additionalFields: ["sha"] });
    assert.equal(info.sha.length, 40);
    const listed = await all(hub.listFiles({ repo, recursive: true, hubUrl }));
    const sizes = Object.fromEntries(listed.filter((f) => f.type === "file").map((f) => [f.path, f.size]));
    assert.deepEqual(sizes, Object.fromEntries([...expected].map(([path, data]) => [path, data.length])));
    const below = await all(hub.listFiles({ repo, path: "onnx/sub dir", expand: true, hubUrl }));
    assert.deepEqual(below.map((f) => f.path), ["onnx/sub dir/a,b+c.txt"]);
    const [some] = await hub.pathsInfo({ repo, paths: ["config.json"], hubUrl });
    assert.equal(some.size, expected.get("config.json").length);
    assert.ok(await hub.fileExists({ repo, path: "config.json", hubUrl }));
    assert.ok(!(await hub.fileExists({ repo, path: "absent.json", hubUrl })));
    assert.equal((await all(hub.listCommits({ repo, hubUrl })))[0].oid, info.sha);
    const models = await all(hub.listModels({ search: { query: "tin" }, hubUrl }));
    assert.ok(models.some((model) => model.name === repo.name));
    const datasets = await all(hub.listDatasets({ search: { owner: "acme" }, hubUrl }));
    assert.ok(datasets.some((dataset) => dataset.name === "acme/rows"));
    await hub.checkRepoAccess({ repo, accessToken: undefined, hubUrl });
  },

  async file() {
    for (const [path, data] of await files(join(fixture, repo.name))) {
      assert.ok((await bytes(await hub.downloadFile({ repo, path, hubUrl }))).equals(data), path);
    }
    const info = await hub.fileDownloadInfo({ repo, path: "model.safetensors", hubUrl });
    assert.equal(info.size, (await readFile(join(fixture, repo.name, "model.safetensors"))).length);
  },

  async whole() {
    for (const name of ["acme/tiny", "datasets/acme/rows", "spaces/acme/app"]) {
      const cacheDir = await mkdtemp(join(process.cwd(), "cache-"));
      await same(name, await hub.snapshotDownload({ repo: name, cacheDir, hubUrl }));
    }
  },

  // Killed half way and started again, in the same cache.
  async resume() {
    const cacheDir = join(process.cwd(), "cache");
    await same("acme/big", await hub.snapshotDownload({ repo: "acme/big", cacheDir, hubUrl }));
  },

  async ranges() {
    const data = await readFile(join(fixture, repo.name, "model.safetensors"));
    const blob = await hub.downloadFile({ repo, path: "model.safetensors", hubUrl });
    assert.equal(blob.size, data.length);
    for (const [start, end] of [[0, 10], [1_000_000, 1_000_123], [data.length - 7, data.length]]) {
      assert.ok((await bytes(blob.slice(start, end))).equals(data.subarray(start, end)), `${start}`);
    }
  },

  async refusals() {
    assert.equal(await hub.downloadFile({ repo, path: "absent.json", hubUrl }), null);
    for (const ask of [
      () => hub.modelInfo({ name: "acme/absent", hubUrl }),
      () => all(hub.listFiles({ repo: "acme/absent", hubUrl })),
      () => all(hub.listFiles({ repo, revision: "absent", hubUrl })),
    ]) {
      await assert.rejects(ask, (error) => error instanceof hub.HubApiError && error.statusCode < 500);
    }
  },
};

await operations[operation]();
console.log("ok");
