import { ConflictException, Injectable, UnauthorizedException } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';

import { isDuplicate } from '../database/errors.js';
import { hashPassword, verifyPassword } from './passwords.js';
import { Tokens } from './tokens.js';
import { User } from './user.entity.js';

export interface Account {
  id: number;
  email: string;
}

@Injectable()
export class AuthService {
  // Checked when nobody has this address, so that the answer takes as long as
  // for a wrong password and does not tell who has an account.
  private readonly nobody = hashPassword('nobody');

  constructor(
    @InjectRepository(User) private readonly users: Repository<User>,
    private readonly tokens: Tokens,
  ) {}

  async signup(email: string, password: string): Promise<Account> {
    const passwordHash = await hashPassword(password);
    try {
      // The unique key decides, not a look beforehand: two signups may race.
      const { identifiers } = await this.users.insert({ email, passwordHash });
      return { id: identifiers[0]!.id, email };
    } catch (error) {
      if (isDuplicate(error)) throw new ConflictException('This email address has an account already');
      throw error;
    }
  }

  async login(email: string, password: string): Promise<string> {
    const user = await this.users.findOneBy({ email });
    const matches = await verifyPassword(password, user?.passwordHash ?? (await this.nobody));
    if (!user || !matches) throw new UnauthorizedException('The email address or the password is wrong');
    return this.tokens.issue(user.id);
  }

  async account(id: number): Promise<Account> {
    const user = await this.users.findOneBy({ id });
    if (!user) throw new UnauthorizedException('This account no longer exists');
    return { id: user.id, email: user.email };
  }
}
