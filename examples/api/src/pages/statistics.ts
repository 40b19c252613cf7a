import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';

import { everyWhileLive } from '../common/live.js';
import { describeError, log } from '../common/log.js';
import { Page } from './page.entity.js';

const EVERY_MS = 60_000;

/** Logs how many pages there are, from one process of this host at a time. */
@Injectable()
export class Statistics implements OnApplicationBootstrap, OnApplicationShutdown {
  private end = (): void => {};

  constructor(@InjectRepository(Page) private readonly pages: Repository<Page>) {}

  onApplicationBootstrap(): void {
    this.end = everyWhileLive(EVERY_MS, () => void this.tell());
  }

  onApplicationShutdown(): void {
    this.end();
  }

  private async tell(): Promise<void> {
    try {
      log.info('statistics', { pages: await this.pages.count() });
    } catch (error) {
      log.warn('no statistics', describeError(error));
    }
  }
}
