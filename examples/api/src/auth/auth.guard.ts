import {
  type CanActivate,
  createParamDecorator,
  type ExecutionContext,
  Injectable,
  UnauthorizedException,
} from '@nestjs/common';
import type { Request } from 'express';

import { Tokens } from './tokens.js';

type AuthorisedRequest = Request & { userId: number };

/** Lets a request pass when it brings a valid `Authorization: Bearer` token. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(private readonly tokens: Tokens) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<AuthorisedRequest>();
    const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    const userId = token === undefined ? undefined : await this.tokens.verify(token);
    if (userId === undefined) throw new UnauthorizedException('Log in first');
    request.userId = userId;
    return true;
  }
}

/** The id of the user that `AuthGuard` let in. */
export const UserId = createParamDecorator(
  (_: unknown, context: ExecutionContext) => context.switchToHttp().getRequest<AuthorisedRequest>().userId,
);
