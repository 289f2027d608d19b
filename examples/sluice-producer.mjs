// A producer for sluice in one file, with Node.js's standard library alone: copy it beside your program.
//
//     import { SluiceProducer } from "./sluice-producer.mjs";
//
//     const producer = new SluiceProducer("/run/sluice/events.sock", "planner");
//     producer.emit({ type: "tool.call", data: { tool: "grep", ms: 12 } });
//     await producer.close();
//
// An event that was emitted is sent until the daemon says that it is stored: a daemon that restarts,
// crashes or is killed loses none of them and stores none twice. What is not stored yet is kept in memory,
// up to `bufferBytes`, and ends with this process.
import { randomBytes } from "node:crypto";
import net from "node:net";
import { StringDecoder } from "node:string_decoder";
import { fileURLToPath } from "node:url";

const PAUSE_MIN_MS = 50; // between tries to connect
const PAUSE_MAX_MS = 1000;
const WRITE_BYTES = 256 * 1024;
const NO_EVENT = Buffer.from("\n"); // an empty line has a number and is nothing else

// As much of the name as fits into so many bytes, which is what the daemon counts.
function cut(name, size) {
  return new StringDecoder("utf8").write(Buffer.from(name).subarray(0, size));
}

export class SluiceProducer {
  acked = 0; // events that are stored
  refused = 0; // events that the daemon refused for good
  dropped = 0; // events that emit() did not take
  error = null; // why the daemon cannot be talked to just now

  #path;
  #name;
  #bufferBytes;
  #onRefused;
  #unsent = []; // lines that were not written to this connection
  #unacked = []; // lines that were, numbered from #ackedLine + 1
  #ackedLine = 0;
  #bytes = 0; // of all lines kept
  #socket = null;
  #greeted = false;
  #offset = 0; // the connection's line numbers plus this are ours
  #pauseMs = PAUSE_MIN_MS;
  #timer = null; // until the next try to connect
  #waiting = new Set(); // [condition, resolve]
  #closed = false;

  // `onRefused(line, code)` is called for each event that the daemon refused for good, with its JSON.
  constructor(path, name, { bufferBytes = 8 << 20, onRefused = () => {} } = {}) {
    this.#path = path;
    // The numbers of this name begin at 1, so it must be no other run's.
    this.#name = `${cut(name, 150)}:${process.pid}:${randomBytes(6).toString("hex")}`;
    this.#bufferBytes = bufferBytes;
    this.#onRefused = onRefused;
  }

  // Takes the event to be sent, and never waits. False if there is no room for it: it is dropped.
  emit(event) {
    const line = Buffer.from(JSON.stringify(event) + "\n");
    if (this.#closed || (this.#bytes > 0 && this.#bytes + line.length > this.#bufferBytes)) {
      this.dropped += 1;
      return false;
    }
    this.#bytes += line.length;
    this.#unsent.push(line);
    if (this.#socket === null && this.#timer === null) this.#connect();
    this.#write();
    return true;
  }

  // Waits until half of the buffer is free: to be awaited between events by a program that would rather
  // wait than drop. False if that took longer.
  room(timeoutMs = 1000) {
    return this.#until(() => this.#bytes <= this.#bufferBytes / 2, timeoutMs);
  }

  // Waits until the daemon is done with every event. False if that took longer.
  flush(timeoutMs = 10000) {
    return this.#until(() => this.#bytes === 0, timeoutMs);
  }

  // As flush(), then ends. False: the time was not enough, and what is left is lost.
  async close(timeoutMs = 10000) {
    this.#closed = true;
    const done = await this.flush(timeoutMs);
    clearTimeout(this.#timer);
    this.#bytes = 0;
    this.#socket?.destroy();
    return done;
  }

  // Events that were taken and are not stored yet.
  get pending() {
    return this.#unsent.length + this.#unacked.length;
  }

  #until(condition, timeoutMs) {
    if (condition()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const entry = [condition, resolve];
      this.#waiting.add(entry);
      setTimeout(() => {
        if (this.#waiting.delete(entry)) resolve(false);
      }, timeoutMs).unref();
    });
  }

  #changed() {
    for (const entry of this.#waiting) {
      const [condition, resolve] = entry;
      if (condition() && this.#waiting.delete(entry)) resolve(true);
    }
  }

  #connect() {
    this.#timer = null;
    // The daemon knows the numbers that it has: sending them again stores nothing twice.
    this.#unsent = this.#unacked.concat(this.#unsent);
    this.#unacked = [];
    this.#offset = this.#ackedLine;
    this.#greeted = false;
    const socket = net.createConnection(this.#path);
    this.#socket = socket;
    const decoder = new StringDecoder("utf8");
    let received = "";
    const hello = { sluice: 1, ack: "durable", producer: this.#name, first: this.#offset + 1 };
    socket.on("connect", () => socket.write(JSON.stringify(hello) + "\n"));
    socket.on("drain", () => this.#write());
    socket.on("error", (error) => (this.error = error.message));
    socket.on("close", () => this.#lost(socket));
    socket.on("data", (bytes) => {
      const answers = (received + decoder.write(bytes)).split("\n");
      received = answers.pop();
      try {
        for (const answer of answers) this.#handle(JSON.parse(answer));
      } catch (error) {
        socket.destroy(error);
      }
    });
  }

  #lost(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    if (this.#bytes === 0) return; // the next event connects
    this.#timer = setTimeout(() => this.#connect(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MAX_MS);
  }

  #write() {
    const socket = this.#socket;
    while (socket && this.#greeted && this.#unsent.length > 0 && !socket.writableNeedDrain) {
      let count = 0;
      for (let bytes = 0; count < this.#unsent.length && bytes < WRITE_BYTES; ++count) {
        bytes += this.#unsent[count].length;
      }
      const lines = this.#unsent.splice(0, count);
      for (const line of lines) this.#unacked.push(line);
      socket.write(Buffer.concat(lines));
    }
  }

  #handle(answer) {
    if (!this.#greeted) {
      if (answer.error !== undefined) throw new Error(answer.error);
      this.#greeted = true;
      this.error = null;
      this.#write();
      return;
    }
    if (answer.nack !== undefined) {
      // No room: nothing behind that line is taken on this connection.
      if (answer.retry) throw new Error(`the daemon gave up a line: ${answer.code}`);
      this.#handleNack(this.#offset + answer.nack, answer.code);
    }
    if (answer.nacks_unsent !== undefined) {
      // It does not know any more which.
      this.refused += answer.nacks_unsent;
      this.acked -= answer.nacks_unsent;
    }
    if (answer.ack !== undefined) this.#handleAck(this.#offset + answer.ack);
    if (answer.done !== undefined) this.#handleAck(this.#offset + answer.done);
  }

  #handleAck(line) {
    const count = Math.min(line - this.#ackedLine, this.#unacked.length);
    if (count <= 0) return;
    for (const bytes of this.#unacked.splice(0, count)) {
      this.#bytes -= bytes.length;
      this.#ackedLine += 1;
      if (bytes !== NO_EVENT) this.acked += 1;
    }
    this.#pauseMs = PAUSE_MIN_MS;
    this.#changed();
  }

  #handleNack(line, code) {
    const at = line - this.#ackedLine - 1;
    const bytes = this.#unacked[at];
    if (bytes === undefined || bytes === NO_EVENT) return;
    this.#unacked[at] = NO_EVENT; // if it is sent again, it only keeps its number
    this.#bytes += NO_EVENT.length - bytes.length;
    this.refused += 1;
    try {
      this.#onRefused(bytes.toString().trimEnd(), code);
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error)); // and the sending goes on
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const producer = new SluiceProducer(process.argv[2] ?? "/run/sluice/events.sock", "example");
  for (let n = 0; n < 3; ++n) producer.emit({ type: "example", data: { n } });
  await producer.close();
  console.log(`${producer.acked} events stored, ${producer.pending} not`);
}
