/**
 * Traces over OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT says to whom: one trace from a request to the end of its
 * migrations. Where it says nothing, neither
 * OpenTelemetry's SDK nor bullmq-otel is loaded.
 */
import type { Telemetry } from 'bullmq';
import type { Observer } from './observer.ts';

export interface Tracing {
  /** For queues and workers: the trace goes from job to job with it. */
  readonly telemetry: Telemetry;
  /** A span for each step of a migration. */
  readonly observer: Observer;
  /** Sends what has not been sent, for a few seconds at most. */
  close(): Promise<void>;
}

/** null: nobody wants traces. */
export async function openTracing(env: Readonly<Record<string, string | undefined>>): Promise<Tracing | null> {
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ?? env['OTEL_EXPORTER_OTLP_ENDPOINT'] ?? '';
  if (endpoint === '' || env['OTEL_SDK_DISABLED'] === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none') return null;
  const { startTracing } = await import('../tracing/otel.ts');
  return startTracing();
}
