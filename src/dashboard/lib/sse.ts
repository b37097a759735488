/** Reads server-sent events out of text that comes in pieces, as the HTML standard says they are written. Pure. */

export interface ServerEvent {
  /** The last id that was sent, on this event or before; empty: none yet. */
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

export class EventReader {
  #rest = '';
  #id: string;
  #event = '';
  #data: string[] = [];
  #begun = false;

  /** `id`: where an earlier connection stopped. */
  constructor(id = '') {
    this.#id = id;
  }

  get lastId(): string {
    return this.#id;
  }

  /** The events that are complete with this piece. */
  push(piece: string): ServerEvent[] {
    let text = this.#rest + piece;
    if (!this.#begun && text !== '') {
      text = text.replace(/^\uFEFF/, '');
      this.#begun = true;
    }
    const events: ServerEvent[] = [];
    for (;;) {
      const end = /\r\n|\n|\r/.exec(text);
      // A CR at the end of a piece may be the first half of a CRLF.
      if (end === null || (end[0] === '\r' && end.index === text.length - 1)) break;
      const event = this.#line(text.slice(0, end.index));
      if (event !== null) events.push(event);
      text = text.slice(end.index + end[0].length);
    }
    this.#rest = text;
    return events;
  }

  #line(line: string): ServerEvent | null {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #dispatch(): ServerEvent | null {
    const [data, event] = [this.#data, this.#event];
    this.#data = [];
    this.#event = '';
    return data.length === 0 ? null : { id: this.#id, event: event === '' ? 'message' : event, data: data.join('\n') };
  }
}
