import { Body, Controller, Get, HttpCode, Post, UseGuards } from '@nestjs/common';

import { AuthGuard, UserId } from './auth.guard.js';
import { type Login, LoginSchema, type Signup, SignupSchema } from './auth.schemas.js';
import { type Account, AuthService } from './auth.service.js';

@Controller('auth')
export class AuthController {
  constructor(private readonly auth: AuthService) {}

  @Post('signup')
  signup(@Body({ schema: SignupSchema }) { email, password }: Signup): Promise<Account> {
    return this.auth.signup(email, password);
  }

  @Post('login')
  @HttpCode(200)
  async login(@Body({ schema: LoginSchema }) { email, password }: Login): Promise<{ accessToken: string }> {
    return { accessToken: await this.auth.login(email, password) };
  }

  @Get('me')
  @UseGuards(AuthGuard)
  me(@UserId() userId: number): Promise<Account> {
    return this.auth.account(userId);
  }
}
