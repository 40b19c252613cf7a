import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import type { Response } from 'express';

import { isDatabaseUnavailable } from '../database/errors.js';
import { describeError, log } from './log.js';

interface Answer {
  status: number;
  body: object;
}

/** Turns whatever was thrown into a JSON answer, and logs what is our fault, once, with its stack. */
@Catch()
export class ErrorsFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const res = host.switchToHttp().getResponse<Response>();
    const requestId: string = res.locals.requestId;
    const { status, body } = this.answer(error, requestId);
    if (status >= 500) log.error('request failed', { requestId, ...describeError(error) });
    if (res.headersSent) {
      res.destroy();
      return;
    }
    if (status === 503) res.set('Retry-After', '1');
    res.status(status).json(body);
  }

  private answer(error: unknown, requestId: string): Answer {
    if (error instanceof HttpException) {
      const body = error.getResponse();
      const status = error.getStatus();
      return { status, body: typeof body === 'string' ? { statusCode: status, message: body } : body };
    }
    if (isDatabaseUnavailable(error)) {
      const message = 'The database does not answer. Try again in a moment.';
      return { status: 503, body: { statusCode: 503, message, requestId } };
    }
    // What the body parser throws: malformed JSON, a body that is too large.
    const { status, expose, message } = error as { status?: unknown; expose?: unknown; message?: unknown };
    if (typeof status === 'number' && status >= 400 && status < 500 && expose === true) {
      return { status, body: { statusCode: status, message } };
    }
    return { status: 500, body: { statusCode: 500, message: 'Internal server error', requestId } };
  }
}
