import { type DynamicModule, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { AuthController } from './auth.controller.js';
import { AuthService } from './auth.service.js';
import { Tokens } from './tokens.js';
import { User } from './user.entity.js';

@Module({})
export class AuthModule {
  static forRoot(jwtSecret: string): DynamicModule {
    return {
      module: AuthModule,
      global: true,
      imports: [TypeOrmModule.forFeature([User])],
      controllers: [AuthController],
      providers: [AuthService, { provide: Tokens, useValue: new Tokens(jwtSecret) }],
      exports: [Tokens],
    };
  }
}
