#!/usr/bin/env node
// A hook for subscriptions to the sandbox: accepts every notification and prints what kind it is, not what it holds.
// notification-receiver.mjs [PORT]; 8090 when left out, 0 for any that is free. The first line printed is its address.
import { createServer } from "node:http";

const parameter = (parameters, name) => parameters.find((one) => one.name === name);

/** One line for people: the kind of notification and the numbers of its events. */
const inWords = (body) => {
  const status = JSON.parse(body).entry[0].resource.parameter;
  const events = status.filter((one) => one.name === "notification-event");
  const numbers = events.map((event) => parameter(event.part, "event-number").valueString);
  return [parameter(status, "type").valueCode, ...numbers.map((number) => `event ${number}`)].join(", ");
};

const receiver = createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    let words;
    try {
      words = inWords(body);
    } catch {
      words = "something that is no notification";
    }
    console.log(`${new Date().toISOString()}  ${words}`);
    response.writeHead(200).end();
  });
});
receiver.listen(Number(process.argv[2] ?? 8090), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${receiver.address().port}/cpis`);
});
