/** The API's description, drawn from what the endpoint says of itself. */

import { byId, make } from "./dom.js";

const endpoint = new URL("./", document.baseURI).href.replace(/\/$/, "");
byId("begin").textContent = [
  `curl --fail-with-body ${endpoint}/v1/restore --data-binary @photo.jpg --output restored.jpg`,
  `curl ${endpoint}/v1/route -F image=@photo.jpg -F explain=true`,
  `curl ${endpoint}/v1/models`,
].join("\n");

const answer = await fetch("openapi.json");
const description = await answer.json();
byId("about").textContent = description.info.description;
byId("operations").replaceChildren(
  ...Object.entries(description.paths).flatMap(([path, own]) =>
    Object.entries(own).map(([method, operation]) => describe(method, path, operation)),
  ),
);
byId("problems").replaceChildren(...listProblems(description));
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();

/** One operation: what it does, its options, its answers. */
function describe(method, path, operation) {
  const options = (operation.parameters ?? []).map((parameter) => row(parameter.name, parameter.description ?? ""));
  const answers = Object.entries(operation.responses).map(([status, told]) => row(status, told.description));
  return make(
    "article", {},
    make("h3", {}, `${method.toUpperCase()} ${path}`),
    make("p", {}, operation.description ?? operation.summary),
    ...[["Options", options], ["Answers", answers]].filter(([, rows]) => rows.length).map(([title, rows]) =>
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { colspan: 2 }, title))), make("tbody", {}, ...rows)),
    ),
  );
}

function row(name, text) {
  return make("tr", {}, make("td", {}, name), make("td", {}, text));
}

function listProblems({ components }) {
  return components.schemas.Problem["x-kinds"].flatMap(({ id, status, title }) => [
    make("dt", { id }, id),
    make("dd", {}, `${status}: ${title}.`),
  ]);
}
