import { Controller, Get, Header, Res } from '@nestjs/common';
import type { Response } from 'express';

import { HealthService } from './health.service.js';

@Controller('health')
export class HealthController {
  constructor(private readonly health: HealthService) {}

  @Get()
  @Header('Cache-Control', 'no-store')
  async check(@Res({ passthrough: true }) res: Response): Promise<object> {
    const reason = await this.health.databaseFailure();
    const uptime = Math.round(process.uptime());
    if (reason === undefined) return { status: 'ok', database: 'ok', uptime };
    res.status(503);
    return { status: 'unavailable', database: 'failed', reason, uptime };
  }
}
