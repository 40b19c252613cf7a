import { type DynamicModule, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';

import { Page } from './page.entity.js';
import { PagesController } from './pages.controller.js';
import { PagesService, RESERVED_SLUGS } from './pages.service.js';
import { Statistics } from './statistics.js';

@Module({})
export class PagesModule {
  static forRoot(reservedSlugs: string[]): DynamicModule {
    return {
      module: PagesModule,
      imports: [TypeOrmModule.forFeature([Page])],
      controllers: [PagesController],
      providers: [PagesService, Statistics, { provide: RESERVED_SLUGS, useValue: reservedSlugs }],
    };
  }
}
