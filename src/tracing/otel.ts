/**
 * OpenTelemetry for a process: spans of BullMQ's jobs (bullmq-otel carries the trace along in them) and of the steps of
 * migrations, sent by OTLP over HTTP. Where to, with which headers, and the service's name, its own variables say (OTEL_*).
 */
import { type Context, context, SpanStatusCode, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  NodeTracerProvider,
  type ReadableSpan,
  type Span,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-node';
import { type Span as JobSpan, SpanKind, type Telemetry } from 'bullmq';
import { BullMQOtel } from 'bullmq-otel';
import { settledWithin } from '../clock/abortable-sleep.ts';
import { FINAL_STEPS } from '../migration/states.ts';
import type { Observer } from '../runtime/observer.ts';
import { packageVersion } from '../runtime/package-version.ts';
import type { Tracing } from '../runtime/tracing.ts';

/** A collector that is away holds up no process's end. */
const CLOSE_LIMIT_MS = 3_000;

/** Once per process: OpenTelemetry's API is global. */
export function startTracing(): Tracing {
  const version = packageVersion();
  const ours = resourceFromAttributes({ 'service.name': 'hostevac', 'service.version': version });
  const provider = new NodeTracerProvider({
    resource: ours.merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new WithoutIdleTurns(new BatchSpanProcessor(new OTLPTraceExporter()))],
  });
  provider.register();
  return {
    telemetry: jobsOnly(new BullMQOtel({ tracerName: 'hostevac', version })),
    observer: stepSpans(version),
    close: async () => {
      await settledWithin(
        provider.shutdown().catch(() => undefined),
        CLOSE_LIMIT_MS,
      );
    },
  };
}

/** BullMQ's spans of jobs that are added or processed; of what it does for itself (looking for the next, closing) none. */
function jobsOnly(telemetry: Telemetry<Context>): Telemetry {
  const { tracer, contextManager } = telemetry;
  const quiet: Telemetry<Context> = {
    contextManager,
    tracer: {
      startSpan: (name, options, parent) =>
        options?.kind === SpanKind.INTERNAL ? NO_SPAN : tracer.startSpan(name, options, parent),
    },
  };
  return quiet;
}

const NO_SPAN: JobSpan<Context> = {
  setSpanOnContext: (ctx) => ctx,
  setAttribute: () => undefined,
  setAttributes: () => undefined,
  addEvent: () => undefined,
  recordException: () => undefined,
  end: () => undefined,
};

/** An operation takes a turn a second as long as it waits: only turns in which something was begun are sent. */
class WithoutIdleTurns implements SpanProcessor {
  readonly #next: SpanProcessor;
  readonly #open = new Set<string>();
  readonly #withChildren = new Set<string>();

  constructor(next: SpanProcessor) {
    this.#next = next;
  }

  onStart(span: Span, parent: Context): void {
    const parentId = trace.getSpanContext(parent)?.spanId;
    if (parentId !== undefined && this.#open.has(parentId)) this.#withChildren.add(parentId);
    this.#open.add(span.spanContext().spanId);
    this.#next.onStart(span, parent);
  }

  onEnd(span: ReadableSpan): void {
    const { spanId } = span.spanContext();
    this.#open.delete(spanId);
    const hasChildren = this.#withChildren.delete(spanId);
    if (hasChildren || span.name !== 'process operations') this.#next.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#next.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#next.shutdown();
  }
}

/** Each step ends where the next begins; it hangs on the job that it is a part of. */
function stepSpans(version: string): Observer {
  const tracer = trace.getTracer('hostevac', version);
  const since = new Map<string, number>();
  return {
    moveBegins: (moveId) => void since.set(moveId, Date.now()),
    transition: ({ moveId, operationId, vm, attempt, from, cause, to, reason }) => {
      const now = Date.now();
      const span = tracer.startSpan(
        from,
        {
          startTime: since.get(moveId) ?? now,
          attributes: {
            'hostevac.operation': operationId,
            'hostevac.move': moveId,
            'hostevac.vm': vm,
            'hostevac.attempt': attempt,
            'hostevac.cause': cause,
            'hostevac.to': to,
          },
        },
        context.active(),
      );
      if (to === 'failed' || to === 'halted') {
        span.setStatus({ code: SpanStatusCode.ERROR, message: reason?.message ?? to });
      }
      span.end(now);
      if (FINAL_STEPS.has(to)) since.delete(moveId);
      else since.set(moveId, now);
    },
  };
}
