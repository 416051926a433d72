/** Limit on the wait for a server's first answer: an address at which nothing answers is reported, and not asked for minutes. */
import type { S3Client } from "@aws-sdk/client-s3";
import { FleetError } from "../../core/errors.ts";

/** Well above what a loaded server takes; once one has answered, silence is a fault of the moment, and calls are repeated. */
const FIRST_ANSWER_MS = 8000;

/** Makes the calls of a client fail without a second attempt as long as no call of it was ever answered. */
export function limitFirstAnswer(client: S3Client): void {
  let hasAnswered = false;
  client.middlewareStack.add(
    (next) => async (args) => {
      if (hasAnswered) return next(args);
      const answered = next(args);
      const result = await Promise.race([answered, silence(addressOf(args.request))]);
      hasAnswered = true;
      return result;
    },
    { step: "deserialize", priority: "low", name: "limitFirstAnswer" },
  );

  function silence(address: string): Promise<never> {
    return new Promise((_, reject) => {
      const seconds = FIRST_ANSWER_MS / 1000;
      const error = new FleetError(
        "store_unavailable",
        `the S3 server at ${address} did not answer within ${seconds} s`,
        {
          cure: "check that the endpoint leads to a running S3 server and not to another service or a firewall (--s3-endpoint, AWS_ENDPOINT_URL_S3, AWS_REGION)",
        },
      );
      setTimeout(() => hasAnswered || reject(error), FIRST_ANSWER_MS).unref();
    });
  }
}

function addressOf(request: unknown): string {
  const { protocol = "", hostname = "", port } = request as { protocol?: string; hostname?: string; port?: number };
  return `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}`;
}
